"""What our work leaves on a node is listed whole, with sizes and owners, and removed only where it is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from records.settings import NodeSpec
from tasks.errors import StepError
from tasks.exo import leavings
from tasks.exo.leavings import Leaving, cramped, look, read_rooms, remove, room_command
from tasks.machines.local import LocalNode

WRITTEN = {
    ".exo-phase1/p/venv/x": "ours",
    ".cache/exo/downloads/model": "models",
    ".local/share/exo/models/m": "models",
    ".local/share/exo/event_log/l": "working files",
    ".config/exo/node_id.keypair": "working files",
    "Documents/Exo/Images/i": "shared",
    "tmp it's/exo/list": "working files",
    "tmp it's/.exo_node_id": "working files",
    ".cache/uv/w": "shared",
    ".cache/tinygrad/k": "shared",
    ".cache/huggingface/h": "shared",
    "elsewhere/models/m": "models",
}
"""As EXO 0.0.15 and 1.0.71 write: helpers.py, download/, shared/constants.py."""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNode:
    """Give this machine as a node with a home folder of its own in which everything was written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in WRITTEN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 5000)
    return LocalNode("srv1", NodeSpec(host="localhost", local=True))


def environment(home: Path) -> dict[str, str]:
    """Return the environment that hosts.yaml gives EXO."""
    return {"TMPDIR": f"{home}/tmp it's", "EXO_MODELS_DIRS": "~/elsewhere/models:"}


def test_everything_is_found_once_with_its_size(node: LocalNode, tmp_path: Path) -> None:
    """Each file lies in exactly one place of its kind; a folder inside another is counted in its own alone."""
    found = look(node, environment(tmp_path))
    for name, kind in WRITTEN.items():
        inside = [leaving for leaving in found if f"{tmp_path}/{name}".startswith(leaving.path)]
        assert max(inside, key=lambda leaving: len(leaving.path)).kind == kind, name
    share = next(leaving for leaving in found if leaving.path.endswith(".local/share/exo"))
    assert share.size_kib < 40
    assert all(leaving.size_kib > 0 for leaving in found)


def test_removal_leaves_what_is_shared(node: LocalNode, tmp_path: Path) -> None:
    """Ours and EXO's working files go, but no models that lie among them; a home folder in a variable is refused."""
    found = look(node, environment(tmp_path))
    going = [leaving for leaving in found if leaving.kind in ("ours", "working files")]
    remove(node, going, [leaving for leaving in found if leaving not in going])
    left = {name: kind for name, kind in WRITTEN.items() if (tmp_path / name).exists()}
    assert left == {name: kind for name, kind in WRITTEN.items() if kind in ("models", "shared")}
    for path in (str(tmp_path), str(tmp_path.parent), "/", "/usr"):
        with pytest.raises(StepError, match="no folder of EXO's alone"):
            remove(node, [Leaving("models", path, 1)], [])


def test_the_room_of_every_file_system_is_known(node: LocalNode, tmp_path: Path) -> None:
    """Every place has a file system with its free bytes, there yet or not; little room or none to write is said."""
    told = node.run(room_command(environment(tmp_path))).stdout
    rooms = read_rooms(told, environment(tmp_path))
    assert len(rooms) == len(leavings.places(environment(tmp_path)))
    assert all(room.free_bytes > 0 and room.mount.startswith("/") and room.writable for room in rooms)
    tight = [leavings.Room("working files", "/tmp/exo", "/tmp", 10**6, True)]
    assert cramped("rog", tight) == ["rog: /tmp has 1.00 MB free, and /tmp/exo is written there"]
    assert cramped("rog", [leavings.Room("models", "/m", "/", 10**12, False)]) == ["rog: /m cannot be written"]
