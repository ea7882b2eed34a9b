"""EXO 0.0.x onto a node: sources, overrides, quoting, and two real installations from a wheel."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from records.settings import Exo, NodeExo, exo_on
from tasks.exo import gen0_install, sources


def exo(**fields: object) -> Exo:
    """Return a 0.0.15 from a folder, with `fields` over it."""
    return Exo(**({"release": "0.0.15", "source": "/srv/exo"} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("git+https://github.com/exo-explore/exo@v0.0.15-alpha", "git"),
        ("/srv/exo", "folder"),
        ("~/exo", "folder"),
        ("/srv/exo-0.0.1-py3-none-any.whl", "file"),
        ("/srv/exo-0.0.1.tar.gz", "file"),
        ("https://host/exo-0.0.1.tar.gz", "file"),
    ],
)
def test_source_kinds(source: str, kind: str) -> None:
    """Every form that hosts.yaml allows is told from the others."""
    assert sources.kind_of(source) == kind


@pytest.mark.parametrize(
    ("source", "url", "reference"),
    [
        ("git+https://github.com/exo-explore/exo@v1.0.71", "https://github.com/exo-explore/exo", "v1.0.71"),
        ("git+ssh://git@host/exo.git", "ssh://git@host/exo.git", None),
        ("git+ssh://git@host/exo.git@main#egg=exo", "ssh://git@host/exo.git", "main"),
        ("git+file:///srv/exo@feature/x", "file:///srv/exo", "feature/x"),
    ],
)
def test_git_addresses(source: str, url: str, reference: str | None) -> None:
    """The tag is told from a user name before the host."""
    assert sources.git_address(source) == (url, reference)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("tinygrad>=0.11", "tinygrad>=0.11"),
        ("tinygrad @ file:///wheels/t.whl", "tinygrad @ file:///wheels/t.whl"),
        ("/srv/tinygrad", "tinygrad @ file:///srv/tinygrad"),
        ("/srv/tinygrad-0.11.0-py3-none-any.whl", "tinygrad @ file:///srv/tinygrad-0.11.0-py3-none-any.whl"),
        ("/srv/mlx-cpu-0.31.2.tar.gz", "mlx-cpu @ file:///srv/mlx-cpu-0.31.2.tar.gz"),
    ],
)
def test_override_lines(override: str, line: str) -> None:
    """A local path gets the name that uv wants before it; the path has it."""
    assert gen0_install.override_line(override) == line


def test_tools_are_only_those_that_are_used() -> None:
    """A node needs git where something is cloned, and nowhere else."""
    assert gen0_install.tools(exo()) == ()
    assert gen0_install.tools(exo(source="git+https://h/exo@v1")) == ("git",)
    assert gen0_install.tools(exo(overrides=["tinygrad @ git+https://h/t@x"])) == ("git",)


def test_every_value_of_hosts_yaml_is_quoted(tmp_path: Path) -> None:
    """A source or an override with shell characters is one word for the shell, never a command."""
    evil = "/srv/$(touch pwned); touch pwned; `touch pwned` 'x'"
    plan = gen0_install.install_plan(
        exo(source=evil, overrides=["a; touch pwned", "/b$(touch pwned)"], extras=["x$(touch pwned)"]),
        "srv1",
        f"{tmp_path}/home $(touch pwned) '",
        "/none/$(touch pwned)",
    )
    for command in [*(step.command for step in plan.steps), plan.revision]:
        ran = subprocess.run(
            ["/bin/bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert "syntax error" not in ran.stderr
    assert not list(tmp_path.rglob("pwned"))


def bash(command: str) -> subprocess.CompletedProcess[str]:
    """Run an installation's command as a node does."""
    return subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a wheel called exo with one extra by hand, so that no index is needed to build it."""
    import zipfile

    path = tmp_path_factory.mktemp("wheel") / "exo-0.0.1-py3-none-any.whl"
    files = {
        "exo/__init__.py": "",
        "exo/main.py": "def run():\n    print('usage: exo --chatgpt-api-port')\n",
        "exo-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: exo\nVersion: 0.0.1\nProvides-Extra: amd-gpu\n",
        "exo-0.0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "exo-0.0.1.dist-info/entry_points.txt": "[console_scripts]\nexo = exo.main:run\n",
    }
    files["exo-0.0.1.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files) + "exo-0.0.1.dist-info/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make the virtual environment once: the plan's first step takes most of the time."""
    folder = tmp_path_factory.mktemp("home") / "home with space"
    plan = gen0_install.install_plan(exo(source=str(wheel), extras=["amd-gpu"]), "rog", str(folder), sys.executable)
    ran = bash(plan.steps[0].command)
    assert ran.returncode == 0, ran.stderr
    return str(folder)


def test_one_nodes_own_words_come_last_and_replace_an_override_of_the_same_package() -> None:
    """A CPU node and an AMD node of one ring get different tinygrads; what only all nodes are told stays."""
    one = exo(
        overrides=["tinygrad==0.10.2", "numpy==2.1.3"],
        extras=["a"],
        nodes={"rog": NodeExo(overrides=["/wheels/tinygrad-0.11.0-py3-none-any.whl"], extras=["a", "amd-gpu"])},
    )
    rog = exo_on(one, "rog")
    assert rog.overrides == ["numpy==2.1.3", "/wheels/tinygrad-0.11.0-py3-none-any.whl"]
    assert rog.extras == ["a", "amd-gpu"]
    assert exo_on(one, "srv1").overrides == ["tinygrad==0.10.2", "numpy==2.1.3"]


@pytest.mark.install
def test_install_really_installs_converges_and_tells_its_revision(wheel: Path, home: str) -> None:
    """Run twice, the steps leave one EXO in a venv of its own, with the same digest both times."""
    one = exo(source=str(wheel), nodes={"rog": NodeExo(extras=["amd-gpu"])})
    plan = gen0_install.install_plan(one, "rog", home, sys.executable)
    revisions = []
    for _ in range(2):
        for step in plan.steps:
            ran = bash(step.command)
            assert ran.returncode == 0, (step.title, ran.stderr)
        revisions.append(bash(plan.revision).stdout.strip())
    assert revisions[0] == revisions[1]
    assert len(revisions[0]) == 64
    assert "--chatgpt-api-port" in bash(f"{shlex.quote(plan.exo)} --help").stdout


@pytest.mark.install
def test_install_fails_on_an_extra_that_does_not_exist_and_leaves_nothing(wheel: Path, home: str) -> None:
    """Where pip only warns and exits 0, the step exits 3 with pip's line last, and EXO is not there.

    Nor is what another extra had brought: the virtual environment is made anew.
    """
    brought = Path(home, "venv/brought-by-amd-gpu")
    brought.touch()
    plan = gen0_install.install_plan(exo(source=str(wheel), extras=["amd"]), "rog", home, sys.executable)
    codes = [(ran := bash(step.command)).returncode for step in plan.steps]
    assert codes == [0, 3]
    assert "does not provide the extra 'amd'" in ran.stderr.splitlines()[-1]
    assert not Path(plan.exo).exists()
    assert bash(plan.revision).returncode != 0
    assert not brought.exists()


def test_copying_a_source_leaves_its_builds_behind(tmp_path: Path) -> None:
    """EXO is built in a copy without history and leftovers; a folder that is not there is named."""
    for name in ("exo/main.py", ".git/HEAD", "build/lib/old.py", "exo.egg-info/PKG-INFO"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text("x")
    assert bash(sources.copy_folder(f"{tmp_path}/from", f"{tmp_path}/to")).returncode == 0
    found = sorted(str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*") if p.is_file())
    assert found == ["exo/main.py"]
    missing = bash(sources.copy_folder(f"{tmp_path}/none", f"{tmp_path}/to"))
    assert missing.returncode == 2
    assert "there is no folder" in missing.stderr


@pytest.mark.install
def test_uv_is_kept_from_an_index_where_pip_is(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`no-index` of pip's configuration becomes uv's switch: uv 0.13 has no variable for it, and would go out."""
    uv, told = Path(home, "venv/bin/uv"), Path(home, "told")
    uv.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {shlex.quote(str(told))}\nexit 1\n')
    uv.chmod(0o755)
    plan = gen0_install.install_plan(exo(overrides=["tinygrad==0.10.2"]), "rog", home, sys.executable)
    for wish, switch in (("1", True), ("0", False)):
        monkeypatch.setenv("PIP_NO_INDEX", wish)
        assert bash(plan.steps[-1].command).returncode == 1
        assert ("--no-index" in told.read_text().splitlines()) is switch
    uv.unlink()
