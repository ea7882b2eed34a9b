"""What the pip of a node is configured to do: genuine pip tells it, and an install gets the environment it needs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tasks.exo.pip_settings import CHECK_UV_SETTINGS, READ_PIP_SETTINGS
from tasks.exo.sources import reason
from tests.support.packages import package


def environment_after(
    configuration: str, folder: Path, python: str = sys.executable, **environment: str
) -> tuple[dict[str, str], subprocess.CompletedProcess[str]]:
    """Return what an install finds in its environment under a pip.conf, and how that ended."""
    (folder / "pip.conf").write_text(configuration, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "SSL_", "HTTP"))}
    command = f'PY={shlex.quote(python)}\n{READ_PIP_SETTINGS}echo "offline=$offline"; env'
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        env=kept | {"PIP_CONFIG_FILE": str(folder / "pip.conf"), "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line), ran


@pytest.fixture(params=["of here", "23.0", "24.0", "25.3", "26.3"])
def python(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a Python whose pip is of that version."""
    if request.param == "of here":
        return sys.executable
    pip = package(f"pip=={request.param}")
    venv.create(tmp_path / "venv", with_pip=False)
    (where,) = tmp_path.glob("venv/lib/python*/site-packages")
    (where / "pip.pth").write_text(f"{pip}\n", encoding="utf-8")
    return str(tmp_path / "venv/bin/python")


def test_every_setting_reaches_pip_and_uv(python: str, tmp_path: Path) -> None:
    """Indexes on two lines, a folder with a blank beside one without, no-index, user, proxies: both programs know."""
    for name in ("my wheels", "more"):
        (tmp_path / name).mkdir()
    configuration = f"""[global]
no-index = yes
index-url = http://index.example/simple
extra-index-url =
    http://one.example/simple
    http://two.example/simple
find-links =
    {tmp_path}/my wheels
    {tmp_path}/more
trusted-host = one.example two.example
constraint = /srv/constraints.txt
proxy = http://proxy.example:3128
require-virtualenv = true
[install]
user = true
"""
    found, ran = environment_after(configuration, tmp_path, python)
    assert ran.returncode == 0, ran.stderr
    blank = (tmp_path / "my wheels").as_uri()
    assert "%20" in blank
    assert found["offline"] == "--no-index"
    assert (found["PIP_FIND_LINKS"], found["UV_FIND_LINKS"]) == (f"{blank} {tmp_path}/more", f"{blank},{tmp_path}/more")
    assert found["UV_DEFAULT_INDEX"] == "http://index.example/simple"
    assert found["UV_INDEX"] == "http://one.example/simple http://two.example/simple"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["UV_INSECURE_HOST"] == "one.example two.example"
    assert found["UV_CONSTRAINT"] == "/srv/constraints.txt"
    assert found["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert found["PIP_USER"] == "0"


def test_a_folder_that_is_not_there_is_for_pip_alone(tmp_path: Path) -> None:
    """Pip warns of a missing folder of wheels and goes on, uv 0.13 stops: it is told of those that are there."""
    links = f"{tmp_path}/gone {tmp_path} {(tmp_path / 'gone too').as_uri()} https://wheels.example/list.html"
    found, _ = environment_after(f"[global]\nfind-links = {links}\n", tmp_path)
    assert found["PIP_FIND_LINKS"] == links
    assert found["UV_FIND_LINKS"] == f"{tmp_path},https://wheels.example/list.html"


def test_the_environment_comes_before_a_file(tmp_path: Path) -> None:
    """PIP_* wins over pip.conf as it does for pip, and what is set for uv itself is left alone."""
    configuration = "[global]\nindex-url = http://file.example/simple\nno-index = true\n"
    given = {"PIP_INDEX_URL": "http://variable.example/simple", "PIP_NO_INDEX": "0", "UV_DEFAULT_INDEX": "http://uv/"}
    found, _ = environment_after(configuration, tmp_path, **given)
    assert (found["UV_DEFAULT_INDEX"], found["offline"]) == ("http://uv/", "")


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ("[install]\ntarget = /srv/elsewhere\n", "install.target=/srv/elsewhere"),
        ("[global]\nprefix = /opt\n", "global.prefix=/opt"),
        ("[global]\npython = /usr/bin/python3\n", "global.python=/usr/bin/python3"),
        ("[install]\nno-deps = on\n", "install.no-deps=on"),
        ("[install]\ndry-run = true\n", "install.dry-run=true"),
        ("[install]\nrequire-hashes = yes\n", "install.require-hashes=yes"),
        ("no-index = true\n", "pip cannot read its configuration: Configuration file could not be loaded"),
        ("[global]\ntimeout = soon\n", "option timeout: invalid floating-point value: 'soon'"),
    ],
)
def test_what_cannot_work_is_named(configuration: str, words: str, tmp_path: Path) -> None:
    """A setting that leads away from EXO's environment, or a file that pip cannot read, ends the step with its name."""
    _, ran = environment_after(configuration, tmp_path)
    assert ran.returncode == 8
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("option", ['target = "/srv"', 'prefix = "/opt"', "no-deps = true", "require-hashes = true"])
def test_what_uv_cannot_work_under_is_named(option: str, tmp_path: Path) -> None:
    """Uv's own file, named, at its usual place or above where it runs; what is no TOML is left to uv to name."""
    usual, project = tmp_path / "config/uv/uv.toml", tmp_path / "pyproject.toml"
    usual.parent.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    named = {"UV_CONFIG_FILE": f"{tmp_path}/named.toml"}
    for file, more in ((usual, {}), (tmp_path / "named.toml", named), (tmp_path / "uv.toml", {}), (project, {})):
        for text, code in (
            (f"[pip]\n{option}\n", 8),
            ("offline = true\n[pip]\nno-deps = false\n", 0),
            ("offline\n", 0),
        ):
            file.write_text(text.replace("[pip]", "[tool.uv.pip]") if file == project else text, encoding="utf-8")
            ran = subprocess.run(
                ["/bin/bash", "-c", f"PY={shlex.quote(sys.executable)}\n{CHECK_UV_SETTINGS}"],
                env={"XDG_CONFIG_HOME": f"{tmp_path}/config"} | more,
                cwd=tmp_path / "home",
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == code
            assert (f"pip.{option.split()[0]}=" in ran.stderr and str(file) in ran.stderr) is (code == 8)


@pytest.mark.parametrize(
    ("log", "last"),
    [
        (
            "Looking in links: /w\nERROR: Could not find a version that satisfies the requirement numpy==2.0.0\n"
            "ERROR: No matching distribution found for numpy==2.0.0\n",
            "ERROR: Could not find a version that satisfies the requirement numpy==2.0.0"
            " ERROR: No matching distribution found for numpy==2.0.0 ",
        ),
        (
            "Using Python 3.13.0\n  × No solution found when resolving dependencies:\n"
            "  ╰─▶ Because numpy==2.0.0 has no wheels with a matching Python ABI tag\n      and exo depends on it.\n",
            " × No solution found when resolving dependencies: ╰─▶ Because numpy==2.0.0 has no wheels with a matching"
            " Python ABI tag and exo depends on it. ",
        ),
        (
            'ERROR: Exception:\nTraceback (most recent call last):\n  File "x"\nOSError: No space left on device\n',
            "OSError: No space left on device",
        ),
        (
            "Looking in indexes: http://127.0.0.1:9/simple\nWARNING: Retrying (Retry(total=0, connect=None, read=None,"
            " redirect=None, status=None)) after connection broken by 'NewConnectionError(\"HTTPConnection(host="
            "'127.0.0.1', port=9): Failed to establish a new connection: [Errno 111] Connection refused\")':"
            " /simple/tomli-w/\nERROR: Could not find a version that satisfies the requirement tomli-w (from versions:"
            " none)\nERROR: No matching distribution found for tomli-w\n",
            "no connection: 'NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=9): Failed to establish a new"
            " connection: [Errno 111] Connection refused\")': /simple/tomli-w/ ERROR: Could not find a version that"
            " satisfies the requirement tomli-w (from versions: none) ERROR: No matching distribution found for"
            " tomli-w ",
        ),
        (
            "  error: subprocess-exited-with-error\n  \n  × Preparing metadata (pyproject.toml) did not run"
            " successfully.\n  │ exit code: 1\n  ╰─> [3 lines of output]\n      Traceback (most recent call last):\n"
            '        File "<string>", line 1, in <module>\n      RuntimeError: no compiler for you\n'
            "      [end of output]\n  \n  note: This error originates from a subprocess, and is likely not a problem"
            " with pip.\nerror: metadata-generation-failed\n\n× Encountered error while generating package"
            " metadata.\n╰─> from file:///srv/exo\n\nnote: This is an issue with the package mentioned above, not"
            " pip.\nhint: See above for details.\n",
            " error: subprocess-exited-with-error × Preparing metadata (pyproject.toml) did not run successfully."
            " RuntimeError: no compiler for you error: metadata-generation-failed × Encountered error while generating"
            " package metadata. ",
        ),
        (
            "Using CPython 3.11.7 interpreter at: /usr/bin/python\nerror: The build backend returned an error\n"
            "  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)\n\n         [stderr]\n"
            "         Traceback (most recent call last):\n"
            '           File "<string>", line 1, in <module>\n         numpy/core.c:1: no such header\n',
            "error: The build backend returned an error cause: Call to `setuptools.build_meta.build_wheel` failed (exit"
            " status: 1) numpy/core.c:1: no such header ",
        ),
        (
            "error: No solution found when resolving dependencies\n  cause: Because requests was not found in the"
            " cache, your requirements are unsatisfiable.\n\nhint: Packages were unavailable because the network was"
            " disabled.\n",
            "error: No solution found when resolving dependencies cause: Because requests was not found in the cache,"
            " your requirements are unsatisfiable. hint: Packages were unavailable because the network was disabled. ",
        ),
    ],
)
def test_the_telling_line_comes_last(log: str, last: str, tmp_path: Path) -> None:
    """Of pip and uv the errors with what is below them, of what they ran its last word or error, of a crash its last.

    That an index cannot be reached comes before the version that pip then does not find.
    """
    (tmp_path / "install.log").write_text(log, encoding="utf-8")
    ran = subprocess.run(
        ["/bin/bash", "-c", reason(shlex.quote(str(tmp_path / "install.log")))],
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.stderr.splitlines()[-1] == last
