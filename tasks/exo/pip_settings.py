"""What a node's pip is configured to do, kept for pip where it helps and handed to uv, which does not read it.

Shell text that runs before an install and sets the environment of pip and of uv: a site with an index, a folder of
wheels or a certificate of its own then works with both. A setting under which nothing can land in EXO's own
environment is named.
"""

from __future__ import annotations

import shlex

_READ = r'''
import ast, os, shlex, subprocess, sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

told = subprocess.run([sys.executable, "-I", "-m", "pip", "config", "list"], capture_output=True, text=True)
if told.returncode:
    sys.exit("pip cannot read its configuration: " + (" ".join((told.stderr + told.stdout).split())
             or "exit %d" % told.returncode))
found = {}
for section in ("global", "install", ":env:"):  # the later wins
    for line in told.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.startswith(section + "."):
            found[name[len(section) + 1:]] = (ast.literal_eval(value), name)

def yes(option):
    return str(found.get(option, ("", ""))[0]).lower() in ("1", "true", "yes", "on", "t", "y")

elsewhere = [option for option in ("target", "prefix", "root", "python") if option in found]
not_whole = [option for option in ("dry-run", "no-deps", "no-dependencies", "require-hashes") if yes(option)]
for option in elsewhere + not_whole:
    sys.exit("under pip's setting %s=%s EXO does not land whole in an environment of its own; take it out (pip config"
             " debug shows the file)" % (found[option][1], found[option][0]))

def words(option):
    return found[option][0].split() if option in found else []

def links():
    """pip splits at blanks; a line that is a path as a whole is meant as one."""
    for line in found.get("find-links", ("", ""))[0].splitlines():
        whole = Path(line.strip()).expanduser()
        if line.strip() and whole.exists():
            yield whole.absolute().as_uri() if " " in str(whole) or "," in str(whole) else str(whole.absolute())
        else:
            yield from line.split()

wanted = {"PIP_USER": "0", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
places = list(links())
if places:
    wanted["PIP_FIND_LINKS"] = " ".join(places)
def there(place):
    """pip warns of a folder that is not there and goes on; uv stops."""
    return "://" in place and not place.startswith("file:") or Path(unquote(urlsplit(place).path)).exists()

given = {"UV_FIND_LINKS": ",".join(filter(there, places)), "UV_DEFAULT_INDEX": " ".join(words("index-url"))}
given["UV_INDEX"] = " ".join(words("extra-index-url"))
if given["UV_INDEX"]:
    given["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip takes the best of all its indexes, uv the first that knows
given["UV_INSECURE_HOST"] = " ".join(words("trusted-host"))
given["UV_CONSTRAINT"] = " ".join(words("constraint"))
given["SSL_CERT_FILE"], given["SSL_CLIENT_CERT"] = " ".join(words("cert")), " ".join(words("client-cert"))
given["HTTPS_PROXY"] = given["HTTP_PROXY"] = " ".join(words("proxy"))
wanted.update((name, value) for name, value in given.items() if value and not os.environ.get(name))
for name, value in wanted.items():
    print("export %s=%s" % (name, shlex.quote(value)))
# There is no UV_NO_INDEX: only the switch keeps uv from asking an index, here for the setuptools of EXO's own build.
print("offline=%s" % ("--no-index" if yes("no-index") else ""))
'''

_CHECK_UV = r"""
import os, sys, tomllib
from pathlib import Path

config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
given = os.environ.get("UV_CONFIG_FILE")
above = [folder / name for folder in (Path.cwd(), *Path.cwd().parents) for name in ("uv.toml", "pyproject.toml")]
for file in [given] if given else [*above, f"{config}/uv/uv.toml", "/etc/uv/uv.toml"]:
    try:
        told = tomllib.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        continue  # uv itself says what is wrong with it
    pip = (told.get("tool", {}).get("uv", {}) if str(file).endswith("pyproject.toml") else told).get("pip", {})
    for option in ("target", "prefix", "no-deps", "require-hashes"):
        if pip.get(option):
            sys.exit("under uv's setting pip.%s=%s EXO does not land whole in an environment of its own; take it out of"
                     " %s" % (option, pip[option], file))
"""

CHECK_UV_SETTINGS = f'"$PY" -I -c {shlex.quote(_CHECK_UV.strip())} || exit 8\n'
"""Shell text; $PY is a Python. Ends where `uv pip` is told to install elsewhere, or not the whole of it."""

READ_PIP_SETTINGS = f'settings=$("$PY" -I -c {shlex.quote(_READ.strip())}) || exit 8; eval "$settings"\n'
"""Shell text; $PY is a Python with pip. Sets $offline, the switch that uv needs where pip may ask no index."""

READ_PIP_SETTINGS_IF_ANY = f'if "$PY" -I -m pip --version >/dev/null 2>&1; then {READ_PIP_SETTINGS}fi\n'
"""The same where $PY may have no pip, as the Pythons that uv brings."""
