"""Step 10: the benchmark script is on the bench node, whole, and its own error there is known."""

from __future__ import annotations

import hashlib
import json
import shlex

import msgspec

from records.facts import Calibration, ScriptReady
from tasks import console
from tasks.command_line import PROJECT
from tasks.errors import StepError
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import script_path
from tasks.machines.pythons import fitting_python
from tasks.steps import StepNotes, step

SCRIPT = PROJECT / "scripts" / "benchmark_exo_vs_ollama.py"
SCRIPT_PYTHON = ">=3.9"
CALIBRATION_TIMEOUT_S = 120


@step
def create_benchmark(lab: Lab, notes: StepNotes, anyway: bool = False) -> ScriptReady:
    """Put the benchmark script on the bench node and measure its own error there."""
    notes.deviation(
        "a script that times whole answers with the wall clock and compares each arm's best run",
        "a script that streams, stamps every frame on the monotonic clock and states its own error",
        "wall clocks jump, a cold load or a cached prompt passes for speed, and best-of-N favours the noisier arm",
    )
    node = lab.bench_node
    digest, was_there = ensure_script(node)
    if was_there:
        notes.already()
    python = fitting_python(node, SCRIPT_PYTHON)
    console.doing(node.key, "calibrates the benchmark script against a metronome")
    limit = lab.inventory.decision.instrument_fraction
    calibration = _calibrate(node)
    if _too_coarse(calibration, limit):
        console.note(node.key, "the script's own error is beyond its limit: it is measured again")
        calibration = _calibrate(node)
    coarse = _too_coarse(calibration, limit)
    if len(coarse) == len(calibration) and not anyway:
        raise StepError(
            f"the script's rates are off by {max(coarse):.1%} at worst, beyond {limit:.0%} at every speed, twice",
            "an instrument finer than what it measures",
            "is something else at work on this node (uptime, top)? then: fab create-benchmark; --anyway goes on",
            who=node.key,
        )
    if coarse:
        notes.warn(f"the script's rates are off by up to {max(coarse):.1%} (limit {limit:.0%}) at some speeds")
    worst_s = max((abs(c.first_token_error_mean_s) for c in calibration), default=0.0)
    notes.summary = f"script at {script_path(node)}, first-token error {worst_s * 1000:.2f} ms at worst"
    return ScriptReady(node.key, script_path(node), digest, python.version, calibration)


def ensure_script(node: Node) -> tuple[str, bool]:
    """Put this version of the script on a node unless it is there; return its SHA-256 and whether it was there.

    Raises StepError where what arrives is not what was sent.
    """
    digest = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()
    if _digest_on(node) == digest:
        return digest, True
    node.put(SCRIPT.read_bytes(), script_path(node), 0o700)
    if _digest_on(node) != digest:
        raise StepError(
            f"{script_path(node)} differs from what was sent",
            f"SHA-256 {digest}",
            f"df -h on {node.spec.host}, then: fab create-benchmark",
            who=node.key,
        )
    return digest, False


def script_command(node: Node) -> str:
    """Return the start of a command line that runs the script on a node: interpreter and path, quoted."""
    return shlex.join([fitting_python(node, SCRIPT_PYTHON).path, script_path(node)])


def _too_coarse(calibration: list[Calibration], limit: float) -> list[float]:
    """Return the errors of the rate that are beyond the limit."""
    return [e for c in calibration if (e := abs(c.rate_error_mean_fraction)) > limit]


def _digest_on(node: Node) -> str:
    return node.run(digest_command(node), check=False).stdout.partition(" ")[0]


def digest_command(node: Node) -> str:
    """Return the command that prints the digest of the script on a node."""
    return f"sha256sum {shlex.quote(script_path(node))} 2>/dev/null"


def calibration_command(node: Node) -> str:
    """Return the command that has the script measure its own error."""
    return f"{script_command(node)} --calibrate --json"


def _calibrate(node: Node) -> list[Calibration]:
    ran = node.run(calibration_command(node), check=False, timeout_s=CALIBRATION_TIMEOUT_S)
    try:
        if not ran.ok:
            raise node.failed(ran, CALIBRATION_TIMEOUT_S)
        return msgspec.convert(json.loads(ran.stdout), list[Calibration])
    except (json.JSONDecodeError, msgspec.ValidationError) as error:
        raise StepError(
            f"the calibration printed no figures: {error}", "its JSON", "fab create-benchmark", who=node.key
        ) from error
