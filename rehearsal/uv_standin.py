"""Stand-in for uv: as much of `uv pip install` as installing EXO with overrides needs, done by the venv's own pip.

Packed into a wheel by rehearsal.sources, so it imports nothing but the standard library. An override replaces what
any package requires of that name, which pip itself cannot do.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

VERSION = "uv 0.8.6"
TOLD = """
import importlib.metadata, json, sys
d = importlib.metadata.distribution(sys.argv[1])
print(json.dumps([d.requires or [], d.metadata.get_all("Provides-Extra") or []]))
"""


def main() -> None:
    """Be `uv`."""
    argv = sys.argv[1:]
    if argv[:1] == ["--version"]:
        print(VERSION)
    elif argv[:2] == ["pip", "install"]:
        sys.exit(pip_install(argv[2:]))
    else:
        sys.exit(f"error: this stand-in for uv does not know: uv {' '.join(argv)}")


def pip_install(argv: list[str]) -> int:
    """Install each requirement without its dependencies, then these with the overrides put in; returns an exit code."""
    parser = argparse.ArgumentParser(prog="uv pip install")
    parser.add_argument("--python", required=True)
    parser.add_argument("--override", type=Path)
    for ignored in ("--reinstall-package", "--refresh-package", "--index-strategy"):
        parser.add_argument(ignored)
    parser.add_argument("requirements", nargs="+")
    asked = parser.parse_args(argv)
    overrides = {}
    for line in asked.override.read_text().splitlines() if asked.override else []:
        if line.strip() and not line.startswith("#"):
            overrides[_name(line)] = line.strip()
    wanted: list[str] = []
    for requirement in asked.requirements:
        plain, extras = _split(requirement)
        code = _pip(asked.python, ["--no-deps", "--force-reinstall", plain])
        if code:
            return code
        name = asked.reinstall_package or _name(plain)
        wanted += [overrides.get(_name(text), text) for text in _required(asked.python, name, requirement, extras)]
    return _pip(asked.python, wanted) if wanted else 0


def _pip(python: str, arguments: list[str]) -> int:
    flags = ["--no-input", "--disable-pip-version-check", "--quiet"]
    return subprocess.run([python, "-m", "pip", "install", *flags, *arguments], check=False).returncode


def _required(python: str, name: str, requirement: str, extras: list[str]) -> list[str]:
    """Return what the installed `name` needs with `extras`; says so, as uv does, where it has no such extra."""
    told = subprocess.run([python, "-c", TOLD, name], capture_output=True, text=True, check=True).stdout
    requires, provides = json.loads(told)
    for extra in extras:
        if extra not in provides:
            sys.stderr.write(f"warning: The package `{requirement}` does not have an extra named `{extra}`\n")
    found = []
    for text in requires:
        needed, _, marker = text.partition(";")
        extra_named = re.search(r"""extra\s*==\s*["']([^"']+)""", marker)
        if extra_named is None or extra_named.group(1) in extras:
            found.append(needed.strip())
    return found


def _split(requirement: str) -> tuple[str, list[str]]:
    """Return a requirement without its extras, and these: `exo[a,b] @ URL` or `/folder[a]`."""
    match = re.match(r"^(.*?)\[([A-Za-z0-9_,. -]+)\](.*)$", requirement)
    if match is None:
        return requirement, []
    return match.group(1) + match.group(3), [extra.strip() for extra in match.group(2).split(",")]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", match.group(0)).lower() if match else requirement


if __name__ == "__main__":
    main()
