"""The rehearsal: all fifteen steps on an embedded cluster, for people with no cluster at hand and for every test."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
from invoke.exceptions import Exit

from tasks import console
from tasks.benchmark.steps import bench_group
from tasks.cleanup import stop_cluster
from tasks.command_line import EXIT_FAILED, EXIT_USAGE, PROJECT
from tasks.errors import StepError
from tasks.install import install_group
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.machines.lock import FileLock, this_call
from tasks.preflight import preflight_group
from tasks.report import document_results
from tasks.start import start_group

ROOT = PROJECT / ".rehearsal"
MARK = "rehearsal.json"
"""Lies in the folder of every rehearsal; a folder without it is never cleared."""
RUNS = "5"


class RehearsalOptions(msgspec.Struct, frozen=True):
    """What the options of `fab rehearse` and `fab rehearsal-up` say, as typed."""

    speedup: str = "1.5"
    noise: str = "0.02"
    trap: str = ""
    seed: str = "0"
    generation: str = "0"
    nodes: str = "3"
    drift: str = "0"


def bring_up(root: Path, wish: RehearsalOptions) -> Path:
    """Start a rehearsal's nodes below `root` and return its hosts file. Raises Exit where an option makes no sense."""
    wanted = check(root, wish)
    lock = _locked(root)
    try:
        return _up(root, wanted)
    finally:
        lock.release()


def _up(root: Path, wanted: dict[str, Any]) -> Path:
    from rehearsal import cluster

    above = next(folder for folder in (root, *root.parents) if folder.exists())
    if os.statvfs(above).f_flag & os.ST_NOEXEC:
        raise _no_place(root, "is on a mount where no program may run (noexec); the nodes' programs would lie there")
    try:
        cluster.up(root, **wanted)
    except OSError as error:
        raise _no_place(root, f"cannot be written: {error}") from error
    except RuntimeError as error:
        raise Exit(f"rehearsal: {error}", code=EXIT_FAILED) from error
    return root / "hosts.yaml"


def check(root: Path, wish: RehearsalOptions) -> dict[str, Any]:
    """Return the options as the cluster takes them. Raises Exit for one that makes no sense, and changes nothing."""
    from rehearsal import cluster

    try:
        wanted: dict[str, Any] = {
            "speedup": _number("speedup", wish.speedup),
            "noise": _number("noise", wish.noise),
            "trap": wish.trap or None,
            "seed": int(_number("seed", wish.seed)),
            "generation": int(_number("generation", wish.generation)),
            "nodes": int(_number("nodes", wish.nodes)),
            "drift": _number("drift", wish.drift, least=-1.0),
        }
        cluster.check(root, **{name: value for name, value in wanted.items() if name != "seed"})
    except ValueError as error:
        raise Exit(f"rehearsal: {error}", code=EXIT_USAGE) from error
    return wanted


def _locked(root: Path) -> FileLock:
    """Return the lock of a rehearsal's folder, taken: its file lies beside, because the folder itself is cleared."""
    lock = FileLock(root.with_name(f"{root.name}.lock"), f"the rehearsal in {root}")
    lock.take(this_call())
    return lock


def _no_place(root: Path, why: str) -> Exit:
    return Exit(f"rehearsal: {root} {why}\n  do: fab rehearse --root FOLDER, with a folder elsewhere", code=EXIT_FAILED)


def take_down(root: Path) -> list[str]:
    """Stop everything a rehearsal started; its logs and report stay. Returns what was stopped, in words."""
    from rehearsal import cluster

    return cluster.down(root) if root.is_dir() else []


def clear(root: Path) -> None:
    """End an earlier rehearsal in `root` and remove its files. Raises Exit where `root` holds anything else."""
    if not root.exists():
        return
    if any(root.iterdir()) and not (root / MARK).is_file():
        raise Exit(f"{root}: is not a rehearsal's folder (no {MARK}); give another one", code=EXIT_USAGE)
    take_down(root)
    shutil.rmtree(root)


def rehearse(root: Path, wish: RehearsalOptions, html: bool) -> None:
    """Run all fifteen steps on a rehearsal and stop it again. Raises StepError or Exit as the steps do."""
    wanted = check(root, wish)  # before an earlier rehearsal is cleared
    lock = _locked(root)
    try:
        _rehearse(root, wanted, html)
    finally:
        lock.release()


def _rehearse(root: Path, wanted: dict[str, Any], html: bool) -> None:
    clear(root)
    hosts = _up(root, wanted)
    lab = Lab(load_inventory(hosts), hosts)
    failure: StepError | None = None
    try:
        preflight_group(lab)
        install_group(lab)
        start_group(lab)
        bench_group(lab, runs=RUNS)
    except StepError as error:
        failure = error  # what happened so far is a result too
    try:
        documented = document_results(lab, html=html)
    finally:
        _end(lab, root, failure)
    verdict = documented.verdict
    console.text(
        f"\nREHEARSAL at a true speed-up of {wanted['speedup']:g}: {verdict}; nothing here is about your machines."
    )
    console.text(f"report: {lab.docs / 'exo-phase1-results.md'}")
    if verdict == "GO" and wanted["speedup"] <= lab.inventory.decision.target_ratio:
        raise Exit("a GO that the true speed-up does not carry: this is a bug, report it", code=EXIT_FAILED)


def _end(lab: Lab, root: Path, failure: StepError | None) -> None:
    """Clean up, take the nodes down whatever happens, and raise the first thing that went wrong."""
    from rehearsal.traps import spring

    try:
        spring(root, "stop-cluster")
        stop_cluster(lab)
    except StepError as error:
        failure = failure or error
    finally:
        lab.close()
        take_down(root)
    if failure is not None:
        raise failure


def _number(option: str, text: str, least: float = 0.0) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number < 1e9:
        raise Exit(f"--{option} {text}: needs a number", code=EXIT_USAGE)
    return number
