"""Group `cleanup`, step 15: nothing of ours runs, the ports are free, Ollama is as it was."""

from __future__ import annotations

import shlex

from records.facts import Cleaned, OllamaState, Stopped
from records.settings import exo_on
from reports.text.format import alike, few
from tasks import console
from tasks.errors import StepError, all_of
from tasks.exo import leavings
from tasks.exo.cluster import ExoCluster
from tasks.exo.node import PORTS_FREE_WITHIN_S, ExoNode
from tasks.machines import survey
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import ROOT
from tasks.machines.ports import ports_taken
from tasks.machines.threads import run_all
from tasks.ollama import api as ollama
from tasks.ollama.before import ollama_before
from tasks.ollama.servers import ask_servers, refuse_silent
from tasks.steps import StepNotes, step


@step
def stop_cluster(lab: Lab, notes: StepNotes) -> Cleaned:
    """Stop what we started, prove the ports free and Ollama unchanged."""
    notes.deviation(
        "kill $(cat /tmp/exo-NODE.pid) on every node",
        "TERM, then KILL, to every process of ours, found by identity (boot, start time, command, folder, mark)",
        "a PID file says nothing about who has that PID today, and is no help where it is gone",
    )
    stopped, failed = _stop_everywhere(lab)
    before, after, silent = _ollama(lab)
    both = [(before[arm], after[arm]) for arm in after if arm in before]
    changes = [change for pair in both for change in ollama.changes(*pair)]
    touched = [what for pair in both for what in ollama.touched(*pair)]
    unchanged = bool(before) and bool(after) and not changes and not touched
    off = {key: str(error.problem.found) for key, error in failed.items() if key not in stopped}
    cleaned = notes.partial = Cleaned(stopped, before, after, unchanged, changes, off, touched)
    for change in [*changes, *touched]:
        notes.warn(f"Ollama changed: {change}")
    if not before and not silent:
        notes.warn("what Ollama was like before is not known: `fab preflight` was not run")
    for key, stop in stopped.items():
        for port, owner in stop.held_by.items():
            notes.warn(f"{key}: port {port} is held by {owner}: not ours, not touched")
    notes.summary = _summary(cleaned)
    if all(not stop.was_running and not stop.ended and not stop.removed for stop in stopped.values()):
        notes.already()
    if errors := [*failed.values(), *silent]:
        raise all_of(errors)
    refuse_silent(
        after.values(),
        "every Ollama healthy after cleanup",
        "look at it there: systemctl status ollama (this program never stops or starts it)",
    )
    return cleaned


def stop_on(exo: ExoNode) -> Stopped:
    """End everything of ours on one node, noted or not, and look at its ports. Raises StepError where that fails."""
    ending = exo.stop()
    strays = survey.survey(exo.node)
    wanted = {exo.ports.api, exo.ports.peer} | survey.listening_ports(exo.node, strays)
    ended = survey.end(exo.node, strays)
    ours = [process for process in survey.survey(exo.node) if process.pid not in {stray.pid for stray in strays}]
    ended += survey.end(exo.node, ours)  # what the first ones had started meanwhile
    taken = _taken(exo, tuple(sorted(wanted)), patient=ending.was_running or bool(ended))
    return Stopped(
        node=exo.key,
        was_running=ending.was_running,
        how=ending.how,
        stopped_s=ending.seconds,
        ports_free={str(port): port not in taken for port in sorted(wanted)},
        left=[leaving.words for leaving in leavings.look(exo.node, exo_on(exo.exo, exo.key).environment)],
        held_by={str(port): owner for port, owner in taken.items()},
        ended=ended,
        removed=_without_temporary_files(exo.node),
    )


def render_again(lab: Lab) -> None:
    """Render the report once more where there is one: cleanup's result, and Ollama's state after it, belong to it."""
    from reports.render import write_report

    page = lab.docs / "exo-phase1-results.md"
    if page.is_file() and lab.logs.is_dir():
        write_report(lab.all_logs, lab.docs, profile=lab.inventory.profile, html=page.with_suffix(".html").is_file())
        console.text(f"    the report has this cleanup in it now: {page}")


stop_cluster.afterwards = render_again


def _stop_everywhere(lab: Lab) -> tuple[dict[str, Stopped], dict[str, StepError]]:
    """Clean every node that answers, side by side; returns what was done, and what went wrong, by node."""
    cluster = ExoCluster(lab)
    done: dict[str, Stopped] = {}
    failed: dict[str, StepError] = {}
    outcomes = run_all({key: lambda exo=exo: stop_on(exo) for key, exo in cluster.nodes.items()})  # type: ignore[misc]
    for key, outcome in outcomes.items():
        try:
            done[key] = outcome.value()
        except StepError as error:
            failed[key] = error.about(key)
    return done, failed


def _ollama(lab: Lab) -> tuple[dict[str, OllamaState], dict[str, OllamaState], list[StepError]]:
    """Return the servers before and after, and an error where the bench node cannot be asked for them."""
    try:
        return ollama_before(lab.bench_node, lab.inventory.profile), ask_servers(lab), []
    except StepError as error:
        return {}, {}, [error]


def _taken(exo: ExoNode, ports: tuple[int, ...], *, patient: bool) -> dict[int, str]:
    """Return who listens on `ports` at any address that EXO would use; threads of what has ended get a moment."""
    if patient:
        exo.ports_taken(PORTS_FREE_WITHIN_S)
    return ports_taken(exo.node, exo.address, ports)


def _without_temporary_files(node: Node) -> list[str]:
    """Remove what an interrupted copy of ours has left (`*.part`); returns the paths."""
    return node.run(sweep_command(node), check=False).stdout.splitlines()


def sweep_command(node: Node) -> str:
    """Return the command that removes what interrupted copies of ours have left, and prints it."""
    return f"find {shlex.quote(node.home())}/{ROOT} -maxdepth 3 -name '*.part' -type f -print -delete 2>/dev/null"


def _summary(cleaned: Cleaned) -> str:
    nodes = cleaned.nodes
    ended = [f"{key} ({s.how}, {s.stopped_s:.1f} s)" for key, s in nodes.items() if s.was_running]
    strays = sum(len(stop.ended) for stop in nodes.values())
    words = [f"stopped EXO on {few(ended)}" if ended else "no EXO of ours was running by its note"]
    if strays:
        words.append(f"ended {strays} more processes of ours")
    held = [f"{key}:{port}" for key, stop in nodes.items() for port in stop.held_by]
    looked = alike({key: " ".join(stop.ports_free) for key, stop in nodes.items()})
    words.append(f"held by others: {', '.join(held)}" if held else f"ports free: {looked}" if nodes else "")
    if cleaned.not_looked_at:
        words.append(f"NOT looked at: {', '.join(cleaned.not_looked_at)}")
    before = "unchanged" if cleaned.ollama_unchanged else "answers, its earlier state is not known"
    before = "touched by others" if cleaned.ollama_restarts else before
    words.append(f"Ollama {'CHANGED' if cleaned.ollama_changes else before if cleaned.ollama_after else 'not asked'}")
    return "; ".join(word for word in words if word)
