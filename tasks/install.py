"""Group `install`, steps 2 to 4: the right EXO in a venv of its own on every node, seen to be it, and to compute."""

from __future__ import annotations

import json
import shlex

import msgspec

from records.facts import GpuTruth, Installed
from records.plan import command_for, node_step
from records.settings import exo_on
from tasks import console
from tasks.errors import StepError
from tasks.exo import identity, probe
from tasks.exo.cluster import ExoCluster
from tasks.exo.interface import InstallPlan
from tasks.exo.node import ExoNode
from tasks.feasibility import tinygrads
from tasks.gpu import amd, witnesses
from tasks.machines.environment import exported
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import TOOL_PATH
from tasks.steps import Step, StepNotes, run_side_by_side, step

_DECISIVE = ("tinygrad", "mlx", "mlx-cpu", "mlx-lm", "numpy", "grpcio", "aiohttp", "pyrsmi", "transformers")
"""Packages whose versions decide speed and device."""
FOREIGN = 'path=$(command -v exo) && echo "$path" && timeout 20 "$path" --help 2>&1'
"""Asks for an `exo` on the node's own PATH."""


@step
def install_srv1(lab: Lab, notes: StepNotes) -> Installed:
    """Install EXO on ndnlinuxsrv1 in a venv of its own."""
    return install_on(ExoCluster(lab).nodes["srv1"], notes)


@step
def install_srv2(lab: Lab, notes: StepNotes) -> Installed:
    """Install EXO on ndnlinuxsrv2 in a venv of its own."""
    return install_on(ExoCluster(lab).nodes["srv2"], notes)


@step
def install_rog(lab: Lab, notes: StepNotes) -> Installed:
    """Install EXO on rog-flow-z13 and hear several witnesses about its Radeon under ROCm."""
    exo = ExoCluster(lab).nodes["rog"]
    truth = verify_rocm(exo, notes)
    installed = install_on(exo, notes)
    return msgspec.structs.replace(installed, gpu=truth)


def install_step(key: str) -> Step[Installed]:
    """Return the step that installs EXO on a node which the plan does not know."""

    def work(lab: Lab, notes: StepNotes) -> Installed:
        exo = ExoCluster(lab).nodes[key]
        truth = verify_rocm(exo, notes)
        return msgspec.structs.replace(install_on(exo, notes), gpu=truth)

    return Step(work, node_step("install", key))


def install_group(lab: Lab, only: list[str] | None = None) -> None:
    """Run steps 2 to 4 side by side, `only` on some nodes, then refuse different revisions on different nodes."""
    planned = {"srv1": install_srv1, "srv2": install_srv2, "rog": install_rog}
    run_side_by_side(lab, {key: planned.get(key) or install_step(key) for key in lab.nodes}, only)
    if only:
        return
    identity.same_revision(ExoCluster(lab).each(lambda exo: exo.revision()))


def install_on(exo: ExoNode, notes: StepNotes) -> Installed:
    """Install the profile's EXO on one node, or find it already there, and prove what it is. Raises StepError."""
    notes.deviation(
        "pip install exo" + ("[amd]" if exo.key == "rog" else ""),
        f"{exo.exo.source} into {exo.folder}, proven by its own --help and revision",
        "on the package index `exo` is the Yeast Epigenome Project's tool, and EXO has no extra named amd",
    )
    notes.deviation(
        "exo --version", "exo --help and the commit it was installed from", "EXO has no --version: it exits with code 2"
    )
    if overrides := exo.wheel_overrides():
        notes.deviation(
            f"EXO {exo.exo.release} with the versions that it pins",
            f"{', '.join(overrides)} instead, for Python {exo.python().version}",
            "what it pins has no wheel for this Python, and a build from source takes minutes or fails",
        )
    _name_foreign_exo(exo.node, notes)
    plan = exo.install_plan()
    wish = exo.wish()
    if _is_there(exo, plan, wish):
        notes.already()
    else:
        _perform(exo, plan)
    installed = _proven(exo, plan)
    exo.note_install(wish, installed.revision)
    computed = exo.compute()  # also where nothing was installed: a driver, a compiler or the environment may be another
    if computed and not computed.works:
        raise probe.refused(computed)
    device = f", computes on {computed.device} ({computed.seconds:.1f} s)" if computed else ""
    notes.summary = f"EXO {installed.generation} at {installed.revision[:12]} in {installed.venv}{device}"
    return msgspec.structs.replace(installed, probe=computed)


def verify_rocm(exo: ExoNode, notes: StepNotes) -> GpuTruth | None:
    """Ask every witness on a node about the GPU that hosts.yaml names, and for what EXO needs to compute on it.

    A missing GPU is a warning, not an error: without the claim that it is used, EXO computes on the CPU.
    """
    node, wanted = exo.node, exo.node.spec.gpu
    if wanted is None:
        return None
    notes.deviation(
        "rocm-smi --showproductname must show the 8060S",
        "rocm-smi, amd-smi, rocminfo, sysfs and /dev/kfd were asked, and each one's word is kept",
        "the processor itself is called '... w/ Radeon 8060S', so a grep finds that name without any usable GPU",
    )
    probed = node.run(witnesses.probe_command(wanted), check=False, timeout_s=60).stdout
    truth = witnesses.read_probe(probed, node.key, wanted)
    agree = [w.name for w in truth.witnesses if w.agrees]
    if not truth.present:
        words = "; ".join(f"{w.name}: {w.said}" for w in truth.witnesses)
        notes.warn(f"{node.key}: no witness sees the {wanted.name} ({wanted.gfx}): {words}")
    elif truth.usable is False:
        why = "; ".join(f"{w.name}: {w.said}" for w in truth.witnesses if w.name in witnesses.DECIDES_USE)
        notes.warn(f"{node.key}: the {wanted.name} is there ({', '.join(agree)}) but not usable: {why}")
    if exo.claims_gpu and amd.is_amd(wanted):
        own = exo_on(exo.exo, node.key)
        for words in amd.lacking(node.key, amd.read_probe(probed, wanted), comgr=tinygrads.needs_comgr(own)):
            notes.warn(words)
    return truth


def missing_tools(plan: InstallPlan) -> str:
    """Return the command that prints which of the programs an install runs are not there."""
    return f"{TOOL_PATH}for t in {shlex.join(plan.tools)}; do command -v $t >/dev/null || echo $t; done"


def versions_command(plan: InstallPlan) -> str:
    """Return the command that prints the venv's Python and the versions of the packages that decide."""
    code = (
        "import json,platform\nfrom importlib.metadata import version,PackageNotFoundError\nout={}\n"
        f"for name in {json.dumps(list(_DECISIVE))}:\n try: out[name]=version(name)\n"
        " except PackageNotFoundError: pass\nprint(json.dumps([platform.python_version(), out]))"
    )
    return f"{shlex.quote(plan.python)} -c {shlex.quote(code)}"


def help_command(plan: InstallPlan) -> str:
    """Return the command that has the installed `exo` say what it is."""
    return f"{shlex.quote(plan.exo)} --help"


def _perform(exo: ExoNode, plan: InstallPlan) -> None:
    node = exo.node
    missing = node.run(missing_tools(plan)).stdout.split()
    if missing:
        raise StepError(
            f"has no {', '.join(missing)}",
            f"the programs that this install runs: {', '.join(plan.tools)}",
            f"install them on {node.spec.host}: {', '.join(missing)}",
            who=node.key,
        )
    with exo.credentials() as logins:
        _run(exo, plan, logins)


def _run(exo: ExoNode, plan: InstallPlan, logins: dict[str, str]) -> None:
    node = exo.node
    for action in plan.steps:
        console.doing(node.key, action.title)
        ran = node.run(exported(node, logins) + action.command, timeout_s=action.timeout_s, check=False)
        if not ran.ok:
            whole = f"read all of it on {node.spec.host}: {action.log}\n" if action.log else ""
            raise StepError(
                f"{node.failed(ran, action.timeout_s).problem.found} (while: {action.title})",
                "an install that ends well",
                f"{whole}mend that and type: {command_for('install', node.key)}; what is half there lies in"
                f" {exo.folder} on {node.spec.host} and is taken up again or replaced",
                who=node.key,
            )


def _is_there(exo: ExoNode, plan: InstallPlan, wish: dict[str, str]) -> bool:
    """Tell whether the node's own note names this very wish and the node still has the revision it was proven with."""
    note = exo.install_note()
    if note is None or note.wish != wish:
        return False
    ran = exo.node.run(plan.revision, check=False, timeout_s=60)
    return ran.ok and ran.stdout.strip() == note.revision


def _proven(exo: ExoNode, plan: InstallPlan) -> Installed:
    """Ask the node what it has now. Raises StepError where that is not the EXO that hosts.yaml names."""
    node = exo.node
    ran = node.run(help_command(plan), check=False, timeout_s=120)
    program = identity.identify(ran.stdout + ran.stderr, ran.exit_code)
    identity.check(program, exo.generation.NAME, node.key, plan.exo)
    python_version, packages = json.loads(node.run(versions_command(plan)).stdout)
    return Installed(
        node=node.key,
        release=exo.exo.release,
        generation=program.kind,
        source=exo.exo.source,
        revision=node.run(plan.revision, timeout_s=60).stdout.strip(),
        venv=plan.python.rsplit("/bin/", 1)[0],
        exo=plan.exo,
        python_version=python_version,
        python_overrides=exo.wheel_overrides(),
        packages=packages,
    )


def _name_foreign_exo(node: Node, notes: StepNotes) -> None:
    """Name an `exo` that the node's PATH already has; it is never used."""
    ran = node.run(FOREIGN, check=False)
    path, _, help_text = ran.stdout.partition("\n")
    warning = identity.foreign(identity.identify(help_text, ran.exit_code), path) if path else ""
    if warning:
        notes.warn(f"{node.key}: {warning}")
