"""A PEP 517 build backend and wheel writer in one file, so that pip installs the stand-ins without any network.

`rehearsal.sources` lays a copy into each stand-in's source tree, whose pyproject.toml names it as its own backend
(`requires = []`, `backend-path = ["."]`). Understood: [project] name, version, description, dependencies,
optional-dependencies, scripts; [tool.wheels] packages, and `into` (folder -> where it goes in the wheel). Wheel format:
PEP 427.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

REVISION_NOTE = ".rehearsal-revision"
"""A node whose home has this file builds another revision from the same source: the trap `mixed-revisions`."""


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel of the project in the current folder and return its file name (PEP 517)."""
    del config_settings, metadata_directory
    about = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    told, files = about["tool"]["wheels"], {}
    note = Path.home() / REVISION_NOTE
    if note.exists():
        Path(told["packages"][0], "_revision.py").write_text(f"REVISION = {note.read_text().strip()!r}\n")
    folders = {package: package for package in told["packages"]} | told.get("into", {})
    for folder, inside in folders.items():
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{folder} is missing; it must be built first")
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"{inside}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return write_wheel(Path(wheel_directory), about["project"], files)


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Return that nothing is needed (PEP 517)."""
    del config_settings
    return []


def write_wheel(folder: Path, project: dict[str, Any], files: dict[str, bytes]) -> str:
    """Write a pure Python wheel of `files` (path -> content) into `folder` and return its file name."""
    name = f"{re.sub(r'[-_.]+', '_', project['name'])}-{project['version']}"
    info = f"{name}.dist-info"
    files = files | {
        f"{info}/METADATA": _metadata(project).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: wheels\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts := project.get("scripts"):
        lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}".encode()
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = f"{name}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path)  # with its fixed date: the same source gives the same wheel
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return wheel


def _metadata(project: dict[str, Any]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines.append(f"Summary: {project.get('description', '')}")
    lines += [f"Requires-Dist: {requirement}" for requirement in project.get("dependencies", [])]
    for extra, requirements in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements]
    return "\n".join(lines) + "\n"


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
