"""Group `install`, steps 2 to 4: the right EXO in a venv of its own on every node, asked back from the node."""

from __future__ import annotations

import hashlib
import json
import shlex

import msgspec

from records.facts import GpuTruth, Installed
from records.settings import exo_on
from tasks import console
from tasks.errors import StepError
from tasks.exo import identity
from tasks.exo.catalogue import generation_of
from tasks.exo.interface import InstallPlan
from tasks.gpu import witnesses
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import state_folder
from tasks.machines.pythons import fitting_python
from tasks.steps import StepNotes, run_side_by_side, step

_TELLING = ("tinygrad", "mlx", "mlx-cpu", "mlx-lm", "numpy", "grpcio", "aiohttp", "pyrsmi", "transformers")
"""Packages whose versions decide speed and device."""


TOOL_PATH = 'PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin";'
"""Where uv and cargo install themselves; a non-login shell does not look there."""


class Note(msgspec.Struct, frozen=True):
    """What lies in `installed.json` on the node after an install that was proven: the wish and what came of it."""

    wish: str
    """Digest of everything in hosts.yaml that bears on the install."""
    revision: str


@step
def install_srv1(lab: Lab, notes: StepNotes) -> Installed:
    """Install EXO on ndnlinuxsrv1 in a venv of its own."""
    return install_on(lab, notes, "srv1")


@step
def install_srv2(lab: Lab, notes: StepNotes) -> Installed:
    """Install EXO on ndnlinuxsrv2 in a venv of its own."""
    return install_on(lab, notes, "srv2")


@step
def install_rog(lab: Lab, notes: StepNotes) -> Installed:
    """Install EXO on rog-flow-z13 and hear several witnesses about its Radeon under ROCm."""
    truth = verify_rocm(lab, notes, "rog")
    installed = install_on(lab, notes, "rog")
    return msgspec.structs.replace(installed, gpu=truth)


def install_group(lab: Lab) -> None:
    """Run steps 2 to 4 side by side, then refuse different revisions on different nodes."""
    run_side_by_side(lab, {"srv1": install_srv1, "srv2": install_srv2, "rog": install_rog})
    revisions = lab.each(lambda node: revision_on(lab, node))
    identity.same_revision(revisions)


def install_on(lab: Lab, notes: StepNotes, key: str) -> Installed:
    """Install the profile's EXO on one node, or find it already there, and prove what it is. Raises StepError."""
    node, exo = lab.nodes[key], lab.profile.exo
    notes.deviation(
        "pip install exo" + ("[amd]" if key == "rog" else ""),
        f"{exo.source} into {state_folder(lab, node)}, proven by its own --help and revision",
        "on the package index `exo` is the Yeast Epigenome Project's tool, and EXO has no extra named amd",
    )
    notes.deviation(
        "exo --version", "exo --help and the commit it was installed from", "EXO has no --version: it exits with code 2"
    )
    _name_foreign_exo(node, notes)
    plan = plan_of(lab, node)
    wish = _wish(lab, node)
    if _is_there(node, lab, plan, wish):
        notes.already()
    else:
        _perform(lab, node, plan)
    installed = _proven(lab, node, plan)
    note = msgspec.json.encode(Note(wish, installed.revision))
    node.put(note, f"{state_folder(lab, node)}/installed.json")
    notes.summary = f"EXO {installed.generation} at {installed.revision[:12]} in {installed.venv}"
    return installed


def verify_rocm(lab: Lab, notes: StepNotes, key: str) -> GpuTruth | None:
    """Ask every witness on a node about the GPU that hosts.yaml names; a missing GPU is a warning, not an error."""
    node = lab.nodes[key]
    wanted = node.spec.gpu
    if wanted is None:
        return None
    notes.deviation(
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
        notes.warn(f"{key}: no witness sees the {wanted.name} ({wanted.gfx}): {said}")
    elif truth.usable is False:
        kfd = next((w.said for w in truth.witnesses if w.name == "/dev/kfd"), "was not asked")
        notes.warn(f"{key}: the {wanted.name} is there ({', '.join(agree)}) but not usable: /dev/kfd {kfd}")
    return truth


def plan_of(lab: Lab, node: Node) -> InstallPlan:
    """Return how the profile's EXO is installed on a node. Raises StepError where no Python there fits."""
    exo = lab.profile.exo
    generation = generation_of(exo.release)
    python = fitting_python(node, exo.python or generation.PYTHON)
    return generation.install_plan(exo, node.key, state_folder(lab, node), python.path)


def executable_of(lab: Lab, node: Node) -> str:
    """Return the path of the proven `exo` on a node. Raises StepError where it is not installed."""
    plan = plan_of(lab, node)
    if not node.run(f"test -x {shlex.quote(plan.exo)}", check=False).ok:
        raise StepError(f"there is no {plan.exo}", "an installed EXO", f"fab install-{node.key}", who=node.key)
    return plan.exo


def revision_on(lab: Lab, node: Node) -> str:
    """Return the revision that is installed on a node, as the node tells it now."""
    return node.run(plan_of(lab, node).revision, timeout_s=60).stdout.strip()


def _perform(lab: Lab, node: Node, plan: InstallPlan) -> None:
    missing = node.run(
        f"{TOOL_PATH} for t in {shlex.join(plan.tools)}; do command -v $t >/dev/null || echo $t; done"
    ).stdout.split()
    if missing:
        raise StepError(
            f"has no {', '.join(missing)}",
            f"the programs that this install runs: {', '.join(plan.tools)}",
            f"install them on {node.spec.host}: {', '.join(missing)}",
            who=node.key,
        )
    for one in plan.steps:
        console.note(node.key, one.title)
        ran = node.run(one.command, timeout_s=one.timeout_s, check=False, on_line=None)
        if not ran.ok:
            raise _half_installed(lab, node, node.failed(ran, one.timeout_s), one.title)


def _half_installed(lab: Lab, node: Node, error: StepError, title: str) -> StepError:
    folder = state_folder(lab, node)
    return StepError(
        f"{error.problem.found} (while: {title})",
        "an install that ends well",
        f"mend that and type: fab install-{node.key}; what is half there lies in {folder} on {node.spec.host}"
        " and is taken up again or replaced",
        who=node.key,
    )


def _is_there(node: Node, lab: Lab, plan: InstallPlan, wish: str) -> bool:
    """Tell whether the node's own note names this very wish and the node still has the revision it was proven with."""
    noted = node.run(f"cat {shlex.quote(state_folder(lab, node) + '/installed.json')} 2>/dev/null", check=False).stdout
    try:
        note = msgspec.json.decode(noted, type=Note)
    except msgspec.DecodeError:
        return False
    if note.wish != wish:
        return False
    ran = node.run(plan.revision, check=False, timeout_s=60)
    return ran.ok and ran.stdout.strip() == note.revision


def _wish(lab: Lab, node: Node) -> str:
    """Return a digest of what is wanted; for a local directory also of its files, so that an edit is installed."""
    exo = exo_on(lab.profile.exo, node.key)
    wanted = [exo.release, exo.source, exo.extras, exo.overrides, exo.python]
    source = shlex.quote(exo.source)
    tree = node.run(
        f"[ ! -d {source} ] || find {source} -type f -not -path '*/.git/*' -not -path '*/__pycache__/*' -print0"
        " | sort -z | xargs -0 sha256sum | sha256sum",
        check=False,
        timeout_s=60,
    ).stdout
    return hashlib.sha256((json.dumps(wanted) + tree).encode()).hexdigest()


def _proven(lab: Lab, node: Node, plan: InstallPlan) -> Installed:
    """Ask the node what it has now. Raises StepError where that is not the EXO that hosts.yaml names."""
    exo = lab.profile.exo
    generation = generation_of(exo.release)
    ran = node.run(f"{shlex.quote(plan.exo)} --help", check=False, timeout_s=120)
    found = identity.identify(ran.stdout + ran.stderr, ran.exit_code)
    identity.check(found, generation.NAME, node.key, plan.exo)
    revision = node.run(plan.revision, timeout_s=60).stdout.strip()
    wanted = json.dumps(list(_TELLING))
    code = (
        "import json,platform\nfrom importlib.metadata import version,PackageNotFoundError\nout={}\n"
        f"for name in {wanted}:\n try: out[name]=version(name)\n except PackageNotFoundError: pass\n"
        "print(json.dumps([platform.python_version(), out]))"
    )
    python_version, packages = json.loads(node.run(f"{shlex.quote(plan.python)} -c {shlex.quote(code)}").stdout)
    return Installed(
        node=node.key,
        release=exo.release,
        generation=found.kind,
        source=exo.source,
        revision=revision,
        venv=plan.python.rsplit("/bin/", 1)[0],
        exo=plan.exo,
        python_version=python_version,
        packages=packages,
    )


def _name_foreign_exo(node: Node, notes: StepNotes) -> None:
    """Name an `exo` that the node's PATH already has; it is never used."""
    ran = node.run('path=$(command -v exo) && echo "$path" && timeout 20 "$path" --help 2>&1', check=False)
    path, _, said = ran.stdout.partition("\n")
    warning = identity.foreign(identity.identify(said, ran.exit_code), path) if path else ""
    if warning:
        notes.warn(f"{node.key}: {warning}")
