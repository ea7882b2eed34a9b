"""Stand-in for uv: `uv sync` and `uv pip install` as far as installing EXO needs them, from a folder of wheels.

Packed into a wheel and run by the nodes' `uv`, so it imports nothing but the standard library. An override replaces
what any package requires of that name, which pip cannot do.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

VERSION = "uv 0.8.6"
PLACES = "import json, sys, sysconfig; print(json.dumps([sysconfig.get_path(p) for p in ('purelib', 'scripts')]))"
BUILD = "import sys; sys.path.insert(0, '.'); import wheels; print(wheels.build_wheel(sys.argv[1]))"


class Refused(Exception):  # noqa: N818 - it reads as what uv does
    """What uv says before it exits with `code`."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def main() -> None:
    """Be `uv`."""
    argv = sys.argv[1:]
    try:
        if argv[:1] == ["--version"]:
            print(VERSION)
        elif argv[:2] == ["pip", "install"]:
            pip_install(argv[2:])
        elif argv[:1] == ["sync"]:
            sync(argv[1:])
        else:
            raise Refused(f"error: this stand-in for uv does not know: uv {' '.join(argv)}", 2)
    except Refused as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)


def sync(argv: list[str]) -> None:
    """Make the project's environment ($UV_PROJECT_ENVIRONMENT) hold the project in this folder and what it pins."""
    parser = argparse.ArgumentParser(prog="uv sync")
    for flag in ("--frozen", "--no-dev"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--python", default="python3")
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--no-install-package", action="append", default=[])
    asked = parser.parse_args(argv)
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in asked.extra:
        if extra not in project.get("optional-dependencies", {}):
            raise Refused(f"error: Extra `{extra}` is not defined in the project's `optional-dependencies` table", 2)
    venv = Path(os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv"))
    if not (venv / "bin" / "python").exists():
        subprocess.run([asked.python, "-m", "venv", "--without-pip", str(venv)], check=True)
    environment = Environment(str(venv / "bin" / "python"), {})
    environment.done |= {_name(name) for name in asked.no_install_package}
    environment.add(f"{Path.cwd()}[{','.join(asked.extra)}]")


def pip_install(argv: list[str]) -> None:
    """Install requirements and all they require, overrides put in."""
    parser = argparse.ArgumentParser(prog="uv pip install")
    parser.add_argument("--python", required=True)
    parser.add_argument("--no-index", action="store_true")  # it knows no index anyway
    parser.add_argument("--override", type=Path)
    for ignored in ("--reinstall-package", "--refresh-package", "--index-strategy"):
        parser.add_argument(ignored)
    parser.add_argument("requirements", nargs="+")
    asked = parser.parse_args(argv)
    lines = asked.override.read_text().splitlines() if asked.override else []
    overrides = {_name(line): line.strip() for line in lines if line.strip() and not line.startswith("#")}
    environment = Environment(asked.python, overrides)
    for requirement in asked.requirements:
        environment.add(requirement)


class Environment:
    """A venv, into which wheels are unpacked."""

    def __init__(self, python: str, overrides: dict[str, str]) -> None:
        told = subprocess.run([python, "-c", PLACES], capture_output=True, text=True, check=True).stdout
        library, scripts = json.loads(told)
        self.python, self.library, self.scripts = python, Path(library), Path(scripts)
        self.overrides = overrides
        self.done: set[str] = set()
        """Names that are not to be installed, or not again."""

    def add(self, requirement: str) -> None:
        """Install one requirement with all it needs; each name once."""
        plain, extras = _split(requirement)
        if _name(plain) in self.done:
            return
        wheel = _wheel_of(plain)
        name = _name(wheel.name.partition("-")[0])
        if name in self.done:
            return
        self.done.add(name)
        self._remove(name)
        info = self._unpack(wheel)
        metadata = (info / "METADATA").read_text(encoding="utf-8")
        print(f" + {name}=={wheel.name.split('-')[1]}", file=sys.stderr)
        provides = re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)
        for extra in extras:
            if extra not in provides:
                said = f"warning: The package `{requirement}` does not have an extra named `{extra}`"
                print(said, file=sys.stderr)
        for needed in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE):
            text, _, marker = needed.partition(";")
            extra_named = re.search(r'extra == "([^"]+)"', marker)
            if extra_named is None or extra_named.group(1) in extras:
                self.add(self.overrides.get(_name(text), text.strip()))

    def _unpack(self, wheel: Path) -> Path:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.library)
            info = self.library / next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        points, record = info.parent / "entry_points.txt", info.parent / "RECORD"
        for line in points.read_text().splitlines() if points.exists() else []:
            script, found, target = line.partition(" = ")
            if found:
                module, _, function = target.partition(":")
                path = self.scripts / script
                text = (
                    f"{_first_line(self.python)}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
                )
                path.write_text(text)
                path.chmod(0o755)
                with record.open("a") as listed:
                    listed.write(f"{os.path.relpath(path, self.library)},,\n")
        return info.parent

    def _remove(self, name: str) -> None:
        for info in self.library.glob("*.dist-info"):
            if _name(info.name.partition("-")[0]) != name:
                continue
            for line in (info / "RECORD").read_text().splitlines():
                (self.library / line.partition(",")[0]).unlink(missing_ok=True)
            shutil.rmtree(info)  # an empty one would still be found as an installed package


def _wheel_of(requirement: str) -> Path:
    """Return the wheel of a requirement: a folder is built, a file is taken, a name is looked up in the find-links."""
    name, at, url = requirement.partition(" @ ")
    path = Path(unquote(urlsplit(url if at else requirement).path) if "://" in requirement else requirement)
    if path.is_dir():
        target = tempfile.mkdtemp(prefix="uv-built-")
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        built = subprocess.run(
            [sys.executable, "-c", BUILD, target], cwd=path, capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise Refused(f"{built.stderr}\nerror: Failed to build `{path}`")
        return Path(target) / built.stdout.strip()
    if path.suffix == ".whl" and path.exists():
        return path
    return _looked_up(name)


def _looked_up(requirement: str) -> Path:
    # As uv: commas between, folders or file URLs. uv itself reads nothing of pip's.
    places = (os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")).split(",")
    places = [unquote(urlsplit(place).path) if "://" in place else place for place in places]
    found = {
        _version(wheel.name.split("-")[1]): wheel
        for place in places
        for wheel in Path(place).glob("*.whl")
        if _name(wheel.name.partition("-")[0]) == _name(requirement)
    }
    clauses = re.findall(r"(==|>=|<=|<|>)\s*([0-9.]+)", requirement)
    fitting = [version for version in found if all(_fits(version, op, _version(text)) for op, text in clauses)]
    if not fitting:
        raise Refused(
            "  × No solution found when resolving dependencies:\n"
            f"  ╰─▶ Because {requirement.strip()} was not found in the provided package locations, it cannot be used."
        )
    return found[max(fitting)]


def _first_line(python: str) -> str:
    """Return how a script begins: Linux takes no blank and 127 bytes at most, so pip and uv go through sh."""
    if " " in python or len(os.fsencode(python)) > 125:
        return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''"
    return f"#!{python}"


def _fits(version: tuple[int, ...], operator: str, bound: tuple[int, ...]) -> bool:
    held = {"==": version == bound, "<": version < bound, ">": version > bound}
    return held[operator] if operator in held else held["=="] or held[operator[0]]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _split(requirement: str) -> tuple[str, list[str]]:
    """Return a requirement without its extras, and these: `exo[a,b] @ URL` or `/folder[a]`."""
    match = re.match(r"^(.*?)\[([A-Za-z0-9_,. -]*)\](.*)$", requirement)
    if match is None:
        return requirement, []
    return match.group(1) + match.group(3), [extra.strip() for extra in match.group(2).split(",") if extra.strip()]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", match.group(0)).lower() if match else requirement


if __name__ == "__main__":
    main()
