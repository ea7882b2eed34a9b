"""Lay a trap of the gallery on a running rehearsal and take it away again, so that one install serves many traps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from records.campaign import load_campaign
from rehearsal.layout import NODES, Layout
from rehearsal.processes import marked
from rehearsal.traps import TRAPS
from reports.checks.check import Check
from reports.verdict.decision import Decision, decide
from tasks.exo.cluster import ExoCluster
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab


@contextlib.contextmanager
def laid(layout: Layout, trap: str) -> Iterator[Lab]:
    """Give a Lab on the rehearsal with `trap` laid; afterwards our EXO is stopped and everything is as it was."""
    hosts = layout.hosts_file
    kept = {path: path.read_bytes() for path in (hosts, *(layout.node(key).settings for key in NODES))}
    for key in NODES:
        _snapshot(layout.node(key).bin)
        _snapshot(layout.node(key).sysroot)
    head, _, body = hosts.read_text(encoding="utf-8").partition("\n")
    content = json.loads(body)
    TRAPS[trap].lay(layout, content)
    hosts.write_text(f"{head}\n{json.dumps(content)}\n", encoding="utf-8")
    starts = TRAPS[trap].starts
    if starts:
        starts(layout)
    lab = Lab(load_inventory(hosts), hosts)
    try:
        yield lab
    finally:
        ExoCluster(lab).each(lambda exo: exo.stop())
        lab.close()
        for pid, command in marked(layout.root).items():
            if "exo.main" in command or "/venv/bin/exo" in command or command.startswith("sleep"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for path, data in kept.items():
            path.write_bytes(data)
        for key in NODES:
            _restore(layout.node(key).bin)
            _restore(layout.node(key).sysroot)
        shutil.rmtree(lab.logs, ignore_errors=True)


def decided(lab: Lab) -> Decision:
    """Return the verdict on what lies in the Lab's logs."""
    return decide(load_campaign(lab.logs))


def check_named(decision: Decision, name: str) -> Check:
    """Return one validity check of a decision."""
    return next(check for check in decision.checks if check.name == name)


def _snapshot(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(f"{folder.name}.kept"), symlinks=True, dirs_exist_ok=True)


def _restore(folder: Path) -> None:
    kept = folder.with_name(f"{folder.name}.kept")
    for path in folder.rglob("*"):
        if not (kept / path.relative_to(folder)).exists() and not path.is_dir():
            path.unlink()
    shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(kept)
