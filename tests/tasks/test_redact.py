"""A secret of hosts.yaml is in no log, record or line, and on no command line of any process."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from records.settings import Exo, NodeExo, NodeSpec
from tasks.exo.credentials import without_credentials
from tasks.inventory import InventoryError, load_inventory
from tasks.machines import daemon
from tasks.machines.daemon import Launch
from tasks.machines.environment import exported
from tasks.machines.local import LocalNode
from tasks.redact import masked, secrets_of
from tests import PROJECT
from tests.support import processes

HOSTS = PROJECT / "hosts.yaml"
PLANTED = {
    "HF_TOKEN": "hf_PlantedToken",
    "HTTPS_PROXY": "http://proxyuser:PlantedProxy@proxy.example:3128",
    "SOME_URL": "https://host/x?api_key=PlantedQuery&y=1",
}


def edited(tmp_path: Path, **changes: object) -> Path:
    """Return a hosts file as it is shipped, with `changes` to EXO of the profile in force."""
    import yaml

    content = yaml.safe_load(HOSTS.read_text(encoding="utf-8"))
    content["profiles"][content["profile"]]["exo"] |= changes
    path = tmp_path / "hosts.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_every_kind_of_secret_is_known(tmp_path: Path) -> None:
    """By the variable's name, in a URL of any variable, source or override; as written and as HTTP has it."""
    source = "git+https://user:Planted%40Source@github.com/exo-explore/exo@v0.0.15-alpha"
    wheel = "tinygrad @ https://PlantedOverride@host/tinygrad-0.10.2-py3-none-any.whl"
    inventory = load_inventory(edited(tmp_path, environment=PLANTED, source=source, overrides=[wheel]))
    secrets = secrets_of(inventory)
    for secret in ("hf_PlantedToken", "PlantedProxy", "PlantedQuery", "Planted%40Source", "Planted@Source"):
        assert secret in secrets
    assert base64.b64encode(b"user:Planted@Source").decode() in secrets
    assert masked(f"{wheel} {PLANTED}", secrets).count("Planted") == 0
    assert secrets_of(load_inventory(HOSTS)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"flags": ["--api-key", "abcdef"]}, "flags: --api-key would stand in the node's list of processes"),
        ({"flags": ["--hf-token=abcdef"]}, "flags: --hf-token would stand"),
        ({"source": "https://host/exo-0.0.15.tar.gz?token=abcdef"}, "a secret in a URL's query would stand"),
        ({"environment": {"A B": "1"}}, "'A B' is no name of a variable"),
    ],
)
def test_a_secret_that_could_only_go_on_a_command_line_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    """hosts.yaml is refused with the key path and where the secret belongs, and the message does not hold it."""
    with pytest.raises(InventoryError, match=r"profiles\.") as refused:
        load_inventory(edited(tmp_path, **change))
    assert words in str(refused.value)
    assert "abcdef" not in str(refused.value)


def test_a_source_loses_its_login_which_git_pip_and_uv_get_otherwise() -> None:
    """The URL that stands on a command line is bare; git has a header, pip and uv a netrc; `git@` over SSH stays."""
    exo = Exo(
        release="0.0.15",
        source="git+https://anna:p%40ss@git.example:8443/exo.git@v1",
        overrides=["tinygrad @ https://TOKEN@host.example/t.whl"],
        nodes={"rog": NodeExo(overrides=["mlx @ git+ssh://git@github.com/ml/mlx"])},
    )
    bare, logins = without_credentials(exo)
    assert bare.source == "git+https://git.example:8443/exo.git@v1"
    assert bare.overrides == ["tinygrad @ https://host.example/t.whl"]
    assert bare.nodes == exo.nodes
    assert logins.environment["GIT_CONFIG_KEY_0"] == "http.https://git.example:8443/.extraHeader"
    assert base64.b64decode(logins.environment["GIT_CONFIG_VALUE_0"].split()[-1]) == b"anna:p@ss"
    assert "machine git.example login anna password p@ss\n" in logins.netrc
    assert without_credentials(bare) == (bare, type(logins)())


class Watch:
    """Reads every command line of this machine until told to stop, and keeps those with a planted secret."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: set[bytes] = set()
        self.rounds = 0

    def _look(self) -> None:
        while not self._ended.is_set():
            lines = (line for _, line in processes.files("cmdline"))
            self.seen.update(line for line in lines if any(secret in line for secret in self._secrets))
            self.rounds += 1
            time.sleep(0.01)

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()


def test_no_command_line_has_a_secret_while_a_daemon_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has the variables, /proc never shows them, and no file with them stays; what does is 0600 or 0700."""
    monkeypatch.setenv("HOME", str(tmp_path))
    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    folder = tmp_path / ".exo-phase1/p/run"
    code = "import os, time; print(os.environ['HF_TOKEN'] == 'hf_' + 'Planted' + 'Token', flush=True); time.sleep(60)"
    with Watch("PlantedToken", "PlantedProxy") as watch:
        for _ in range(2):
            daemon.start(node, str(folder), Launch([sys.executable, "-c", code], PLANTED, {}, ()))
            node.run(exported(node, PLANTED) + "sleep 0.2")
            assert daemon.stop(node, str(folder)).how == "TERM"
    assert watch.rounds > 5
    assert watch.seen == set()
    assert Path(f"{daemon.log_path(str(folder))}.previous").read_text(encoding="utf-8") == "True\n"
    for path in (tmp_path / ".exo-phase1").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
        assert path.is_dir() or b"Planted" not in path.read_bytes().replace(b"'Planted'", b""), path


def test_the_watch_sees_what_a_command_line_shows() -> None:
    """The test above would fail for the old way: `env NAME=secret program`."""
    with Watch("PlantedToken") as watch:
        subprocess.run(["env", "HF_TOKEN=hf_PlantedToken", "sleep", "0.5"], check=True)
        shell = subprocess.Popen(["bash", "-c", ": hf_PlantedToken; sleep 0.5; true"])
        time.sleep(0.3)
        shell.wait()
    assert any(b"bash" in line for line in watch.seen)


def test_records_lose_every_secret() -> None:
    """Whatever field it stands in, the longest first, so that no tail of it is left."""
    text = msgspec.json.encode({"a": ["x hf_PlantedToken y"]}).decode()
    assert masked(text, ["hf_PlantedToken", "hf_Planted"]) == '{"a":["x *** y"]}'
    assert os.environ.get("HF_TOKEN") != "hf_PlantedToken"
