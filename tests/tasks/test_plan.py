"""`fab plan` of the shipped hosts file: nothing is asked of any machine, and what is not known is said."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from records.plan import STEPS
from tasks.errors import StepError
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.plan import Unconnected, plan_ahead
from tests import PROJECT


@pytest.mark.parametrize("profile", ["llama-0015", "qwen-1x"])
def test_all_fifteen_steps_are_planned_without_a_connection(profile: str, tmp_path: Path) -> None:
    """Every step of either profile has its actions, downloads come from hosts.yaml, and the schema accepts it."""
    hosts = tmp_path / "hosts.yaml"
    hosts.write_bytes((PROJECT / "hosts.yaml").read_bytes())
    inventory = load_inventory(hosts, profile)
    ahead = plan_ahead(Lab(inventory, hosts))
    assert [step.step for step in ahead.steps] == [step.number for step in STEPS]
    assert all(step.actions for step in ahead.steps)
    assert all(step.last_took_s is None for step in ahead.steps)
    assert ahead.steps[8].download_bytes == dict.fromkeys(
        inventory.nodes, inventory.profiles[profile].models.small.download_bytes
    )
    assert "ADDRESS-OF-srv2" in ahead.unknown
    schema = json.loads((PROJECT / "schemas" / "plan.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(msgspec.json.encode(ahead)), schema)


def test_some_nodes_alone(tmp_path: Path) -> None:
    """With `--nodes` the steps and actions of the other nodes are left out."""
    hosts = tmp_path / "hosts.yaml"
    hosts.write_bytes((PROJECT / "hosts.yaml").read_bytes())
    ahead = plan_ahead(Lab(load_inventory(hosts), hosts), ["rog"])
    assert {action.node for step in ahead.steps for action in step.actions} == {"rog"}
    assert "install-srv1" not in {step.name for step in ahead.steps}


def test_a_plan_cannot_run_anything() -> None:
    """A node of a plan refuses every command."""
    spec = load_inventory(PROJECT / "hosts.yaml").nodes["srv2"]
    with pytest.raises(StepError, match="opens no connection"):
        Unconnected("srv2", spec).run("true")
