"""ROCm verification, part of step 4: what several witnesses on a node say about the GPU that hosts.yaml names."""

from __future__ import annotations

from records.facts import GpuTruth
from tasks.gpu import witnesses
from tasks.machines.lab import Lab
from tasks.steps import Book


def verify_rocm(lab: Lab, book: Book, key: str) -> GpuTruth | None:
    """Ask every witness on a node about the GPU that hosts.yaml names; a missing GPU is a warning, not an error."""
    node = lab.nodes[key]
    wanted = node.spec.gpu
    if wanted is None:
        return None
    book.departs(
        "rocm-smi --showproductname must show the 8060S",
        "rocm-smi, rocminfo, sysfs and /dev/kfd were asked, and each one's word is kept",
        "the processor itself is called '... w/ Radeon 8060S', so a grep finds that name without any usable GPU",
    )
    truth = witnesses.read_probe(
        node.run(witnesses.probe_command(wanted), check=False, timeout_s=60).stdout, key, wanted
    )
    agree = [w.name for w in truth.witnesses if w.agrees]
    if not truth.present:
        said = "; ".join(f"{w.name}: {w.said}" for w in truth.witnesses)
        book.warn(f"{key}: no witness sees the {wanted.name} ({wanted.gfx}): {said}")
    elif truth.usable is False:
        kfd = next((w.said for w in truth.witnesses if w.name == "/dev/kfd"), "was not asked")
        book.warn(f"{key}: the {wanted.name} is there ({', '.join(agree)}) but not usable: /dev/kfd {kfd}")
    return truth
