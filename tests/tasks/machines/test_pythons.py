"""The Pythons of a node: each named once, those for which no wheel is made left out, the best of them first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from records.settings import Exo, NodeSpec
from tasks.errors import StepError
from tasks.exo.node import wheel_overrides
from tasks.machines.local import LocalNode
from tasks.machines.pythons import fitting_python, parse_pythons


def node(*lines: tuple[str, str, str]) -> LocalNode:
    """Return a node that has said of its Pythons: version, state, path."""
    made = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    made.remembered["pythons"] = parse_pythons(
        "".join(f"@@python\t{version}\t{state}\t{path}\t{path}:/prefix\n" for version, state, path in lines)
    )
    return made


def test_the_python_for_which_all_pins_have_wheels_comes_first() -> None:
    """3.12 is taken where both are there, whichever PATH names first; 3.13 where it is the only one."""
    both = node(("3.13.7", "venv", "/usr/bin/python3"), ("3.12.3", "venv", "/opt/bin/python3.12"))
    assert fitting_python(both, ">=3.12,<3.14", "<3.13").version == "3.12.3"
    assert fitting_python(node(("3.13.7", "venv", "/usr/bin/python3")), ">=3.12,<3.14", "<3.13").version == "3.13.7"


def test_free_threaded_builds_are_not_taken() -> None:
    """No wheel of numpy 2.0 or 2.1 for Linux fits one; it is named where nothing else is there."""
    threads = node(("3.13.7", "free-threaded", "/usr/bin/python3.13t"))
    with pytest.raises(StepError, match=r"3\.13\.7 free-threaded \(/usr/bin/python3\.13t\)"):
        fitting_python(threads, ">=3.12,<3.14")


def test_a_python_behind_many_names_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, a folder twice on PATH, a folder with a blank, a greeting of its own: one interpreter, one name."""
    real = Path(sys.prefix) / "bin" / Path(sys.executable).name
    for folder in ("a bin", "b"):
        (tmp_path / folder).mkdir()
        for name in ("python3", "python3.11"):
            (tmp_path / folder / name).write_text(f'#!/bin/sh\nexec {real} "$@"\n', encoding="utf-8")
            (tmp_path / folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/a bin:{tmp_path}/b:{tmp_path}/a bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    here = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    assert fitting_python(here, f"=={sys.version_info.major}.{sys.version_info.minor}")
    paths = [python.path for python in here.remembered["pythons"]]
    assert paths.count(str(real)) == 1
    assert len({Path(path).resolve() for path in paths if path.startswith(("/usr/bin", "/bin"))}) == len(
        [path for path in paths if path.startswith(("/usr/bin", "/bin"))]
    )


def test_a_python_that_is_none_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim that fails, one that reads its input, a text file: the next one is found where it really is."""
    real = Path(sys.prefix) / "bin" / Path(sys.executable).name
    shims = {"a": "#!/bin/sh\nexit 127\n", "b": "#!/bin/sh\ncat\nexit 1\n", "c": "text\n"}
    shims["d"] = f'#!/bin/sh\nexec {real} "$@"\n'
    for name, text in shims.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "python3").write_text(text, encoding="utf-8")
        (tmp_path / name / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", ":".join([*(f"{tmp_path}/{name}" for name in shims), "/usr/bin", "/bin"]))
    monkeypatch.setenv("HOME", str(tmp_path))
    here = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    found = fitting_python(here, f"=={sys.version_info.major}.{sys.version_info.minor}")
    assert found.path == str(real)


def test_what_a_python_lacks_wheels_for_is_overridden() -> None:
    """Numpy 2.0.0 has no wheel for 3.13, 2.1.3 stands in; not where hosts.yaml says it otherwise, and not on 3.12."""
    exo = Exo(release="0.0.15", source="/srv/exo", overrides=["tinygrad==0.10.2"])
    assert wheel_overrides(exo, "srv1", "3.13.7") == ["numpy==2.1.3"]
    assert wheel_overrides(exo, "srv1", "3.12.3") == []
    own = Exo(release="0.0.15", source="/srv/exo", overrides=["NumPy==2.2.0"])
    assert wheel_overrides(own, "srv1", "3.13.7") == []
    assert wheel_overrides(Exo(release="1.0.71", source="/srv/exo"), "srv1", "3.13.7") == []
