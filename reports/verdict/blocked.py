"""Where a campaign stands before there is anything to decide: which step could not be done, which is next."""

from __future__ import annotations

from records import plan
from records.campaign import Campaign
from records.record import Record
from reports.checks.evidence import first_few, timed_by_arm, timed_with_lost
from reports.stats.runs import is_good

LAST_PREPARATION = 9
"""Steps up to this one prepare EXO: one that cannot be done is a finding about EXO on these machines."""
PROVES_THE_REST = (8, 9)
"""The cluster stands, the model answers: what failed before and below has been mended since."""
UNDONE = ("failed", "interrupted", "broken")
"""Of these only an interruption is no finding about anything: a person stopped the step."""


def undone_preparation(campaign: Campaign) -> Record | None:
    """Return the first failed step of the preparation; None where there is none, or a later success mended it."""
    records = campaign.records
    for number in range(1, LAST_PREPARATION + 1):
        record = records.get(number)
        if record is None or record.status not in ("failed", "broken"):
            continue
        since = [r for n in PROVES_THE_REST if n > number and (r := records.get(n)) and campaign.done(n)]
        if not any(later.started_utc > record.started_utc for later in since):
            return record
    return None


def words_of_exo(record: Record) -> str:
    """Return the lines in which EXO itself says that it cannot do a step; empty where it is not EXO that cannot."""
    return first_few(
        dict.fromkeys(f"{p.what}: {p.exo_said}" if p.what else p.exo_said for p in record.errors if p.exo_said)
    )


def exo_never_answered(campaign: Campaign, step: int) -> str:
    """Return why, where EXO was asked and gave no good answer at all while a baseline did; else nothing.

    An EXO that nobody could connect to is down, which its operator mends; it must have taken a request to fail at it.
    """
    by_arm = timed_with_lost(campaign, step)
    exo = [s for members in by_arm.values() for s in members if s.engine == "exo"]
    ollama = [s for members in by_arm.values() for s in members if s.engine != "exo"]
    if step not in campaign.records or any(map(is_good, exo)) or not any(map(is_good, ollama)):
        return ""
    if all(sample.connect_s is None and sample.error for sample in exo):
        return ""
    reasons = first_few(dict.fromkeys(s.error or "no tokens in the answer" for s in exo))
    return f"all {len(exo)} timed requests to EXO failed: {reasons}"


def after_silence(campaign: Campaign) -> str:
    """Return what to do about an EXO that never answers: where its logs lie, as far as the starts were recorded."""
    logs = ", ".join(f"{node}:{exo.log}" for node, exo in campaign.started.items() if exo.log)
    return f"read what EXO said ({logs}), then: fab start" if logs else "fab start"


def what_to_do(record: Record) -> str:
    """Return what to type, of every problem of a failed step."""
    return "; ".join(dict.fromkeys(problem.do for problem in record.errors)) or f"fab {record.name}"


def next_command(campaign: Campaign, step: int) -> str:
    """Return what to type next: the first step that has not been done, up to `step`."""
    if unread := campaign.unreadable_step(step):
        command = f"fab {plan.step_numbered(step).name}"
        return f"read {unread.file} with the version that wrote it, or archive it and measure again: {command}"
    if undone := undone_preparation(campaign):
        return what_to_do(undone)
    for planned in campaign.steps:
        record, number = campaign.record_of(planned), planned.number
        if number > step:
            break
        if record is not None and record.status == "failed":
            return what_to_do(record)
        if record is None or record.status in UNDONE:
            return plan.command_of(planned)
    return "fab report" if timed_by_arm(campaign, step) else f"fab {plan.step_numbered(step).name}"


def standing(campaign: Campaign, step: int) -> str:
    """Return in one sentence how far the campaign has come and why `step` has no verdict yet."""
    record, undone = campaign.records.get(step), undone_preparation(campaign)
    name = f"step {step} ({plan.step_numbered(step).name})"
    if undone and record is None:
        return f"step {undone.step} ({undone.name}) could not be done: {undone.trouble}"
    if unread := campaign.unreadable_step(step):
        return f"{name} has left a record that cannot be read: {unread.words}"
    if skipped := campaign.skipped(step):
        return f"{name} was skipped: {skipped.reason or 'no reason given'}"
    if record is not None and record.status in UNDONE:
        return f"{name} {'was interrupted' if record.status == 'interrupted' else 'ended early'}: {record.trouble}"
    if record is not None:
        return f"{name} is done, but {_what_is_missing(campaign, step)}"
    if campaign.samples.get(step):
        return f"{name} has samples and no record: it is still running, or it was killed"
    done = sorted(filter(campaign.done, campaign.records))
    return f"{name} has not been run; done so far: {', '.join(map(str, done)) or 'nothing'}"


def _what_is_missing(campaign: Campaign, step: int) -> str:
    """Return why a step that says it is done has left nothing to decide on."""
    name = plan.step_numbered(step).samples_name
    torn = campaign.torn.get(name)
    if timed_by_arm(campaign, step):
        return "its rounds are too few for the first look of --until-decided"
    return f"{name} cannot be read: line {torn[0].line}: {torn[0].reason}" if torn else f"{name} has no samples of it"
