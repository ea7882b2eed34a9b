"""How EXO 1.x gets onto a Linux node: its source, its dashboard, its Rust bindings and its locked environment.

Read from README.md and pyproject.toml of v1.0.71: uv >= 0.8.6, Python 3.13, Rust nightly, node >= 18. The dashboard
must be built, or `import exo` fails; on Linux one of the extras `cpu`, `cuda12`, `cuda13` is needed for any MLX at all.
As locked, 1.0.71 cannot run a model on Linux (mlx 0.31.1 lacks `new_thread_local_stream`, exo#2043): exo.overrides are
installed over the locked environment, last. A wheel or an sdist brings all of that built, and goes the way of 0.0.x.
"""

from __future__ import annotations

import shlex

from records.settings import Exo, exo_on, override_name
from tasks.exo import gen0_install
from tasks.exo.interface import InstallPlan, ShellStep
from tasks.exo.pip_settings import CHECK_UV_SETTINGS, READ_PIP_SETTINGS_IF_ANY
from tasks.exo.sources import copy_folder, git_address, kind_of, logged
from tasks.machines.paths import TOOL_PATH

_UNUSED = ("torch",)
"""In the lock of the extra `cpu`, hundreds of megabytes from an index of its own; EXO never imports it on Linux."""

_CHECK_VERSIONS = r"""
bad=""
least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
u=$(uv --version 2>/dev/null | sed -n 's/^uv \([0-9.]*\).*/\1/p')
least "${u:-0}" 0.8.6 || bad="$bad uv ${u:-none} (>= 0.8.6);"
n=$(node --version 2>/dev/null | tr -d v); least "${n:-0}" 18 || bad="$bad node ${n:-none} (>= 18);"
c=$(RUSTUP_TOOLCHAIN=nightly cargo --version 2>/dev/null || cargo --version 2>/dev/null)
case "$c" in *nightly*) ;; *) bad="$bad Rust nightly (has ${c:-none}; rustup toolchain install nightly);";; esac
[ -z "$bad" ] || { echo "too old or missing:$bad" >&2; exit 7; }
echo "uv $u, node $n, $c"
"""

_TREE_DIGEST = (
    r"cd %s && find . \( -name node_modules -o -name target -o -name __pycache__ -o -name build -o -name .venv \)"
    " -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -c1-64"
)


def install_plan(exo: Exo, node: str, home: str, base_python: str) -> InstallPlan:
    """Return how to install `exo` on `node` below `home`; see interface.Generation."""
    if kind_of(exo.source) == "file":
        return gen0_install.install_plan(exo, node, home, base_python)
    exo = exo_on(exo, node)
    source, venv = f"{home}/src", f"{home}/venv"
    clones = kind_of(exo.source) == "git"
    quoted = shlex.quote(source)
    steps = [ShellStep("check the versions of uv, node and Rust", TOOL_PATH + _CHECK_VERSIONS.strip(), 60)]
    dashboard = _build_dashboard(source, always=clones)
    if clones:
        steps.append(ShellStep(f"fetch {exo.source}", _fetch(exo.source, source), 900))
    else:
        steps.append(ShellStep(f"copy {exo.source}", copy_folder(exo.source, source, keep=("build",)), 600))
    steps += [
        ShellStep("build the dashboard", dashboard, 1200, f"{source}/dashboard/build.log"),
        ShellStep(
            "build EXO and its locked environment",
            _sync(exo, home, base_python),
            exo.install_timeout_s,
            f"{home}/install.log",
        ),
    ]
    if exo.overrides:
        steps.append(
            ShellStep(
                f"override {', '.join(exo.overrides)}",
                _override(exo, home, base_python),
                exo.install_timeout_s,
                f"{home}/override.log",
            )
        )
    return InstallPlan(
        steps=steps,
        exo=f"{venv}/bin/exo",
        python=f"{venv}/bin/python",
        tools=(*(("git",) if clones else ()), "uv", "cargo", "node", "npm"),
        revision=f"git -C {quoted} rev-parse HEAD" if clones else _TREE_DIGEST % quoted,
    )


def _fetch(address: str, source: str) -> str:
    """Bring `source` to the tag, branch or full commit in `address`, whatever it was before."""
    url, reference = git_address(address)
    at, here, wanted = shlex.quote(source), shlex.quote(url), shlex.quote(reference or "HEAD")
    return (
        f"set -e; mkdir -p {at}; [ -d {at}/.git ] || git init --quiet {at}\n"
        f"git -C {at} remote remove origin 2>/dev/null || true; git -C {at} remote add origin {here}\n"
        f"GIT_TERMINAL_PROMPT=0 git -C {at} fetch --quiet --depth 1 --no-tags origin {wanted}\n"
        f"git -C {at} checkout --quiet --force --detach FETCH_HEAD; git -C {at} rev-parse HEAD"
    )


def _build_dashboard(source: str, *, always: bool) -> str:
    """Build it; a folder that brings a built one (an air-gapped site) keeps it."""
    folder = shlex.quote(f"{source}/dashboard")
    built = "" if always else "[ -f build/index.html ] && { echo 'brought along'; exit 0; }; "
    build = logged("npm ci --no-audit --no-fund --loglevel=error && npm run build", "build.log")
    return f"{TOOL_PATH}set -e; cd {folder}; {built}{build}; test -f build/index.html"


def _sync(exo: Exo, home: str, base_python: str) -> str:
    """Install what is locked, but for the overridden packages: they are never fetched from where the lock says."""
    extras = list(exo.extras)
    if not any(extra.startswith(("cpu", "cuda")) for extra in extras):
        extras.insert(0, "cpu")
    flags = [f"--extra {shlex.quote(extra)}" for extra in extras]
    flags += [f"--no-install-package {shlex.quote(name)}" for name in dict.fromkeys([*_UNUSED, *_overridden(exo)])]
    sync = f"uv sync --frozen --no-dev --python {shlex.quote(base_python)} {' '.join(flags)}"
    return (
        f"{TOOL_PATH}set -e; cd {shlex.quote(home + '/src')}\n"
        f"PY={shlex.quote(base_python)}\n{READ_PIP_SETTINGS_IF_ANY}"
        "command -v rustup >/dev/null && export RUSTUP_TOOLCHAIN=nightly\n"
        f"export UV_PROJECT_ENVIRONMENT={shlex.quote(home + '/venv')} UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1\n"
        + logged(sync, shlex.quote(f"{home}/install.log"))
    )


def _override(exo: Exo, home: str, base_python: str) -> str:
    """Install the overrides over what was locked; as overrides too, or their dependants' pins would refuse them."""
    lines = " ".join(gen0_install.quoted_override(text) for text in exo.overrides)
    overrides = shlex.quote(f"{home}/overrides.txt")
    venv = shlex.quote(home + "/venv/bin/python")
    install = f"uv pip install $offline --python {venv} --override {overrides} {lines}"
    return (
        f"{TOOL_PATH}set -e; PY={shlex.quote(base_python)}; offline=\n{CHECK_UV_SETTINGS}{READ_PIP_SETTINGS_IF_ANY}"
        f"export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1; printf '%s\\n' {lines} > {overrides}\n"
        + logged(install, shlex.quote(f"{home}/override.log"))
    )


def _overridden(exo: Exo) -> list[str]:
    """Return the names of the overridden packages."""
    return [override_name(text) for text in exo.overrides]
