"""`fab uninstall`: remove everything of ours from the nodes, after showing it with its sizes."""

from __future__ import annotations

from collections.abc import Callable

from records.settings import exo_on
from tasks import console
from tasks.cleanup import stop_on
from tasks.exo import leavings
from tasks.exo.cluster import ExoCluster
from tasks.exo.leavings import Leaving
from tasks.machines.lab import Lab


def uninstall(lab: Lab, *, models: bool, yes: bool, ask: Callable[[str], str] = input) -> None:
    """Stop what runs, show what is there, ask, remove it, and look again. Raises StepError.

    What others may share (caches of pip and uv, folders of another EXO with models) is named and stays.
    """
    cluster = ExoCluster(lab)
    environments = {key: exo_on(lab.profile.exo, key).environment for key in lab.nodes}
    found = lab.each(lambda node: leavings.look(node, environments[node.key]))
    wanted = ("ours", "working files", "models") if models else ("ours", "working files")
    going = {key: [leaving for leaving in there if leaving.kind in wanted] for key, there in found.items()}
    for key, there in found.items():
        for leaving in there:
            console.text(f"{key}: {'remove' if leaving.kind in wanted else 'keep'}  {leaving.words}")
    if not any(going.values()):
        console.text("nothing of ours is on these nodes")
        return
    if not yes and _answer(ask) != "yes":
        console.text("nothing was removed")
        return
    cluster.each(stop_on)
    staying = {key: [leaving for leaving in there if leaving.kind not in wanted] for key, there in found.items()}
    concerned = [key for key, these in going.items() if these]
    lab.each(lambda node: leavings.remove(node, going[node.key], staying[node.key]), concerned)
    console.text(f"removed from {', '.join(concerned)}{_kept(found, models)}")


def _answer(ask: Callable[[str], str]) -> str:
    try:
        return ask("remove these? type yes: ").strip()
    except EOFError:
        return ""


def _kept(found: dict[str, list[Leaving]], models: bool) -> str:
    kept_models = not models and any(leaving.kind == "models" for there in found.values() for leaving in there)
    return "; EXO's models stay: fab uninstall --models" if kept_models else ""
