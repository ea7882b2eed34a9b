"""JSON Schemas of hosts.yaml, of files in `logs/`, of what `--json` prints, from the structs: `make schemas`."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from records.files import write_whole
from records.record import Record
from records.samples import Conditions, Sample
from tasks.command_line import PROJECT
from tasks.inventory import hosts_schema


def schemas() -> dict[str, dict[str, Any]]:
    """Return every schema by its file name in `schemas/`."""
    from records.facts import Preflight
    from reports.export import results_schema
    from tasks.feasibility.assess import Assessment
    from tasks.plan import Ahead
    from tasks.status import LabStatus

    kinds = {"record": Record, "sample": Sample, "conditions": Conditions}
    kinds |= {"preflight": Preflight, "feasibility": Assessment, "plan": Ahead, "status": LabStatus}
    made = {f"{name}.schema.json": msgspec.json.schema(kind) for name, kind in kinds.items()}
    return made | {"hosts.schema.json": hosts_schema(), "results.schema.json": results_schema()}


def main() -> None:
    """Write them all."""
    for name, schema in schemas().items():
        write_whole(PROJECT / "schemas" / name, (json.dumps(schema, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main()
