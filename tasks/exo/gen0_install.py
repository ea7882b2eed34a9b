"""How EXO 0.0.x gets onto a node: a virtual environment of its own and pip; uv beside it where pins are overridden.

Read from setup.py of v0.0.15-alpha: every dependency is pinned, tinygrad to a git commit; the extras are
`apple_silicon`, `windows`, `nvidia-gpu`, `amd-gpu`, `formatting`. pip only warns about an extra that does not exist and
exits 0; here that is exit code 3 and nothing is left installed.
"""

from __future__ import annotations

import json
import shlex

from records.settings import Exo, exo_on, override_name
from tasks.exo.interface import InstallPlan, ShellStep
from tasks.exo.pip_settings import CHECK_UV_SETTINGS, READ_PIP_SETTINGS
from tasks.exo.sources import copy_folder, kind_of, reason, shell_path
from tasks.machines.daemon import digest

DISTRIBUTION = "exo"

# One word: the commit pip noted for a git source, else a digest over the installed files in their order. Scripts and
# metadata stay out of it, because they hold the paths of this node.
_REVISION = """
import hashlib, importlib.metadata, json, sys
d = importlib.metadata.distribution("exo")
url = json.loads(d.read_text("direct_url.json") or "{}")
commit = url.get("vcs_info", {}).get("commit_id")
if not commit:
    meta = (".dist-info", ".egg-info")
    ours = [f for f in d.files or [] if ".." not in f.parts and not f.parts[0].endswith(meta) and f.suffix != ".pyc"]
    ours = sorted((str(f), f.locate()) for f in ours if f.locate().is_file())
    if not ours:
        sys.exit("the installed exo has no files")
    h = hashlib.sha256()
    for name, path in ours:
        h.update(name.encode() + b"\\0" + path.read_bytes() + b"\\0")
    commit = h.hexdigest()
print(commit)
"""


def install_plan(exo: Exo, node: str, home: str, base_python: str) -> InstallPlan:
    """Return how to install `exo` on `node` below `home`; see interface.Generation."""
    exo = exo_on(exo, node)
    extras = exo.extras
    venv = f"{home}/venv"
    python = f"{venv}/bin/python"
    source = f"{home}/src" if kind_of(exo.source) == "folder" else exo.source
    steps = [ShellStep("make a virtual environment", _make_venv(venv, base_python, _asked(exo)), 300)]
    if kind_of(exo.source) == "folder":
        steps.append(ShellStep(f"copy {exo.source}", copy_folder(exo.source, source), 600))
    if exo.overrides:
        steps.append(
            ShellStep(
                "put uv beside it, for the overrides", _put_uv(home, python, exo.overrides), 600, f"{home}/uv.log"
            )
        )
    title = f"install EXO from {exo.source}" + (f" with {', '.join(extras)}" if extras else "")
    steps.append(
        ShellStep(title, _install(exo, source, extras, home, python), exo.install_timeout_s, f"{home}/install.log")
    )
    return InstallPlan(
        steps=steps,
        exo=f"{venv}/bin/exo",
        python=python,
        tools=tools(exo),
        revision=f"{shlex.quote(python)} -I -c {shlex.quote(_REVISION.strip())}",
    )


def tools(exo: Exo) -> tuple[str, ...]:
    """Return the programs a node needs before: git only where something is really cloned."""
    return ("git",) if any("git+" in text for text in (exo.source, *exo.overrides)) else ()


def requirement(source: str, extras: list[str]) -> str:
    """Return `source` with `extras` as shell text of one pip requirement; both quoted."""
    named = f"[{','.join(extras)}]" if extras else ""
    if "://" in source:
        # pip before 24.1 takes a `name @ URL` only where the URL has a host.
        source = source.replace("file:///", "file://localhost/", 1)
        return shlex.quote(f"{DISTRIBUTION}{named} @ {source}")
    return shell_path(source) + shlex.quote(named) if named else shell_path(source)


def override_line(override: str) -> str:
    """Return one line of uv's override file; a bare local path gets the name and the URL that uv wants there."""
    text = override.strip()
    return f"{override_name(text)} @ file://{text}" if text.startswith(("/", "~/")) else text


def _asked(exo: Exo) -> str:
    """Return a digest of what decides which packages there are, an edited file in a local source apart."""
    return digest(json.dumps([exo.release, exo.source, sorted(exo.extras), sorted(exo.overrides)]))


def _make_venv(venv: str, base_python: str, asked: str) -> str:
    """Make it, anew where other packages were asked for: pip never takes out what is not asked for any more."""
    python, base = shlex.quote(f"{venv}/bin/python"), shlex.quote(base_python)
    mark, exo = shlex.quote(f"{venv}/made-for"), shlex.quote(f"{venv}/bin/exo")
    version = shlex.quote("import sys; print(sys.version_info[:3])")
    return (
        f'[ "$({python} -I -c {version} 2>/dev/null)" = "$({base} -I -c {version})" ]'
        f" && {python} -m pip --version >/dev/null 2>&1"
        f' && {{ [ "$(cat {mark} 2>/dev/null)" = {asked} ] || [ ! -e {mark} ] && [ ! -e {exo} ]; }}'
        f" || {{ rm -rf {shlex.quote(venv)} && {base} -m venv {shlex.quote(venv)}; }} && echo {asked} > {mark}"
    )


def _put_uv(home: str, python: str, overrides: list[str]) -> str:
    """Write the override file and make sure of a uv: the venv's own, else the node's where pip cannot get one."""
    lines = " ".join(quoted_override(text) for text in overrides)
    log = shlex.quote(f"{home}/uv.log")
    why = f"$({{ {reason(log)}; }} 2>&1 | tail -n 1)"
    return (
        f"set -e; PY={shlex.quote(python)}; printf '%s\\n' {lines} > {shlex.quote(home + '/overrides.txt')}\n"
        f'{CHECK_UV_SETTINGS}[ -x "${{PY%/*}}/uv" ] && exit\n'
        f'{READ_PIP_SETTINGS}"$PY" -m pip install --no-input --disable-pip-version-check --only-binary uv uv >{log}'
        " 2>&1"
        f' || command -v uv >/dev/null || {{ echo "overrides need uv, and pip cannot install it: {why}" >&2; exit 5; }}'
    )


def quoted_override(override: str) -> str:
    """Return `override_line` as shell text; a path below `~` is below the home folder on the node."""
    line = override_line(override)
    before, home, after = line.partition("file://~/")
    return f'{shlex.quote(before + "file://")}"$HOME"/{shlex.quote(after)}' if home else shlex.quote(line)


def _install(exo: Exo, source: str, extras: list[str], home: str, python: str) -> str:
    """Return the one command that installs; its last line on stderr says why it failed."""
    wish = requirement(source, extras)
    log = shlex.quote(f"{home}/install.log")
    if exo.overrides:
        overrides = shlex.quote(f"{home}/overrides.txt")
        # Where uv is told to stay offline it takes no --refresh: then what it keeps of EXO is thrown away instead.
        command = (
            'UV="${PY%/*}/uv"; [ -x "$UV" ] || UV=uv\n'
            f'install() {{ "$UV" pip install $offline --python "$PY" --override {overrides}'
            f' --reinstall-package {DISTRIBUTION} "$@" {wish} >{log} 2>&1; }}\n'
            f"install --refresh-package {DISTRIBUTION}; code=$?\n"
            f"[ $code -eq 2 ] && grep -q -e '`--refresh' {log}"
            f' && {{ "$UV" cache clean {DISTRIBUTION} >/dev/null 2>&1; install; code=$?; }}'
        )
    else:
        command = f'"$PY" -m pip install --no-input --disable-pip-version-check {wish} >{log} 2>&1; code=$?'
    # EXO goes first: pip would keep an installed 0.0.1 although another tag, also called 0.0.1, is asked for.
    return f"""PY={shlex.quote(python)}
{READ_PIP_SETTINGS.strip()}
remove() {{ "$PY" -m pip uninstall --yes --quiet {DISTRIBUTION} >/dev/null 2>&1; }}
remove
{command}
if bad=$(grep -m 1 -iE 'does not (provide the|have an) extra' {log}); then remove; echo "$bad" >&2; exit 3; fi
if [ $code -ne 0 ]; then
  remove; {reason(log)}; exit $code
fi
exo="${{PY%/*}}/exo"
[ -e "$exo" ] || {{ echo 'the package has no program called exo' >&2; exit 6; }}
[ -x "$exo" ] || {{ echo "$exo may not be run: its mount is noexec (findmnt -T $exo)" >&2; exit 6; }}
tail -n 1 {log}"""
