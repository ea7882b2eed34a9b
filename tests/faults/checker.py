"""What must hold after a case: it ended in time, named node and cause, lost and doubled nothing, left nothing."""

from __future__ import annotations

import re
import time
from collections import Counter

from records.campaign import load_campaign
from records.samples import Sample, read_samples
from reports.stats.runs import is_good
from tests.faults.control import DESK, NODES, Bed, Typed
from tests.support.lab import Machine

INTERRUPTED = 130
GONE_WITHIN_S = 15.0
OF_THE_LAB = re.compile(r"/bin/bash -s$|^sshd: |^/usr/sbin/sshd |-m rehearsal\.ollama |^ps -eo args=$")
_BLOCK = re.compile(r"(.+): could not go on\.$")


def ended_in_time(done: Typed, limit_s: float) -> list[str]:
    """Return what is wrong with how long a call took."""
    return [f"hung: no end within {limit_s:g} s"] if done.hung else []


def told(done: Typed, names: tuple[str, ...], *, interrupted: bool) -> list[str]:
    """Return what is wrong with what a call said where it did not end well: one block each, and one with a name."""
    said = done.stderr.strip()
    wrong = ["a traceback"] if "Traceback" in done.stdout + said else []
    if done.code == 0 or done.code < 0:
        return wrong
    if interrupted:
        return wrong + ([] if done.code == INTERRUPTED else [f"exit code {done.code} instead of {INTERRUPTED}"])
    blocks = [found[1] for line in said.splitlines() if (found := _BLOCK.match(line))]
    wrong += [f"two blocks about {who}" for who, count in Counter(blocks).items() if count > 1]
    for part in ("found:", "needed:", "do:"):
        if blocks and said.count(part) < len(blocks):
            wrong.append(f"a block without `{part}`")
    if not any(name in said for name in names):
        wrong.append(f"nobody of {', '.join(names)} is named: {said[-400:] or 'nothing was said'}")
    return wrong


def logs_decode(bed: Bed) -> list[str]:
    """Return what in the campaign's folder cannot be read."""
    folder = bed.lab.seen(bed.logs)
    return [f"{thing.file}: {thing.reason}" for thing in load_campaign(folder).unreadable] if folder.is_dir() else []


def samples_of(bed: Bed, name: str) -> list[Sample]:
    """Return the samples of a step that are on disk."""
    path = bed.lab.seen(bed.logs) / name
    return read_samples(path)[0] if path.exists() else []


def kept_once(before: list[Sample], after: list[Sample]) -> tuple[int, int]:
    """Return how many finished samples were lost and how many are there twice."""
    lost = [sample for sample in before if is_good(sample) and sample not in after]
    each = Counter((s.arm, s.run, s.attempt, s.request) for s in after if is_good(s))
    return len(lost), sum(count - 1 for count in each.values())


def state_of(bed: Bed) -> set[str]:
    """Return what is on the machines besides the lab's own: processes, open ports, files in temporary folders."""
    things: set[str] = set()
    for machine in (DESK, *NODES):
        things |= {
            f"{machine.key}: process {line}" for line in bed.lab.processes(machine) if not OF_THE_LAB.search(line)
        }
        ports = bed.lab.shell(machine, "ss -Hltn | awk '{print $4}'").split()
        things |= {f"{machine.key}: port {port}" for port in ports}
        things |= {f"{machine.key}: file {path}" for path in _files(bed, machine)}
    return things


def left(bed: Bed, clean: set[str]) -> list[str]:
    """Return what is there that was not there at first, after a moment for what is ending."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (more := state_of(bed) - clean) and time.monotonic() < deadline:
        time.sleep(0.5)
    return sorted(more)


def _files(bed: Bed, machine: Machine) -> list[str]:
    at = bed.lab.folder(machine)
    return bed.lab.shell(machine, f"find {at}/tmp -mindepth 1 -maxdepth 1; find {at} -name '*.part'").splitlines()
