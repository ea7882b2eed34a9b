"""Checks of the answers: from the right model, to the same work, counted, and not failed."""

from __future__ import annotations

from records.campaign import Campaign
from reports.checks.check import Check
from reports.checks.evidence import first_few, schedule_samples, timed_by_arm
from reports.stats.runs import is_good
from reports.stats.summary import summary_of_values


def same_model(campaign: Campaign, step: int) -> Check:
    """Tell whether every answer, failed ones included, came from the model that was asked for."""
    name, why = "same model", "EXO 0.0.15 answers an unknown model's name with its default model, and says HTTP 200."
    samples = schedule_samples(campaign, step)
    if not samples:
        return Check(name, "unknown", "nothing was measured", why)
    wrong = sorted(
        {
            f"{s.arm} was asked for {s.model_asked} and {s.model_answered} answered"
            for s in samples
            if s.model_answered is not None and _plain(s.model_answered) != _plain(s.model_asked)
        }
    )
    benchmark = campaign.benchmark(step)
    if benchmark is not None:
        meant = {"exo": benchmark.exo_model, "ollama": benchmark.ollama_model}
        wrong += sorted(
            {
                f"{s.arm} was asked for {s.model_asked}, hosts.yaml has {meant[s.engine]}"
                for s in samples
                if _plain(s.model_asked) != _plain(meant[s.engine] or "")
            }
        )
    if wrong:
        return Check(name, "fatal", first_few(wrong), why)
    untold = sorted({s.arm for s in samples if s.model_answered is None and is_good(s)})
    if untold:
        return Check(name, "unknown", f"{', '.join(untold)}: answers without the model's name", why)
    answered = sorted({f"{s.arm}: {s.model_answered}" for s in samples if s.model_answered is not None})
    return Check(name, "pass" if answered else "unknown", "; ".join(answered) or "no answer named its model", why)


def same_work(campaign: Campaign, step: int) -> Check:
    """Tell whether both engines had the same prompts and wrote answers of the same length."""
    name, why = "same work", "Longer answers and other prompts cost other times; a rate hides only part of it."
    by_arm = timed_by_arm(campaign, step)
    exo = next((members for members in by_arm.values() if members[0].engine == "exo"), [])
    others = {arm: members for arm, members in by_arm.items() if members[0].engine != "exo"}
    if not exo or not others:
        return Check(name, "unknown", "one of the engines was not measured", why)
    prompts = {(s.run, s.request): s.prompt_sha256 for s in exo}
    wrong, untold, lengths = [], [], []
    length = summary_of_values(float(s.output_tokens or 0) for s in exo if is_good(s))
    for arm, members in others.items():
        shared = [(s, prompts[s.run, s.request]) for s in members if (s.run, s.request) in prompts]
        differing = [s for s, prompt in shared if s.prompt_sha256 and prompt and s.prompt_sha256 != prompt]
        if differing:
            wrong.append(f"{arm}: {len(differing)} of {len(shared)} prompts are not those that EXO had")
        if not shared or any(not s.prompt_sha256 or not prompt for s, prompt in shared):
            untold.append(f"{arm}: prompts not comparable with EXO's")
        theirs = summary_of_values(float(s.output_tokens or 0) for s in members if is_good(s))
        if length is None or theirs is None:
            untold.append(f"{arm}: no good answers of both engines to compare")
            continue
        off = abs(length.mean - theirs.mean) / theirs.mean
        lengths.append(f"mean output EXO {length.mean:.1f} tokens, {arm} {theirs.mean:.1f} ({off:.1%} apart)")
        if off > campaign.limits.length_tolerance:
            wrong.append(f"{lengths[-1]}, more than {campaign.limits.length_tolerance:.0%}")
    if wrong:
        return Check(name, "fatal", first_few(wrong), why)
    if untold:
        return Check(name, "unknown", first_few(untold), why)
    return Check(name, "pass", f"equal prompts by run and request; {'; '.join(lengths)}", why)


def errors(campaign: Campaign, step: int) -> Check:
    """Tell whether too many of an arm's requests failed. Each counts once, against all that were planned or sent."""
    name, why = "errors", "Requests that fail are not the average ones; dropping them flatters the arm that fails."
    by_arm = timed_by_arm(campaign, step)
    if not by_arm:
        return Check(name, "unknown", "nothing was measured", why)
    limit, planned = campaign.limits.failed_fraction, _planned(campaign, step)
    listed, shares, status = [], [], "pass"
    for arm, members in by_arm.items():
        bad = [s for s in members if not is_good(s)]
        share = len(bad) / max(len(members), planned)
        shares.append(f"{arm} {len(bad)} of {max(len(members), planned)}")
        listed += [f"{arm} run {s.run} request {s.request}: {s.error or 'no tokens or time'}" for s in bad]
        if share > limit:
            status = "fatal"
        elif bad and status == "pass":
            status = "warn"
    evidence = f"failed: {', '.join(shares)} (limit {limit:.0%})" + (f". {'; '.join(listed)}" if listed else "")
    return Check(name, "fatal" if status == "fatal" else "warn" if status == "warn" else "pass", evidence, why)


def token_counts(campaign: Campaign, step: int) -> Check:
    """Tell where the token counts come from; frames taken for tokens are the weakest."""
    name, why = "token counts", "A rate is only as good as its count; a frame may carry several tokens."
    by_arm = timed_by_arm(campaign, step)
    sources = {arm: sorted({s.token_source for s in members if is_good(s)}) for arm, members in by_arm.items()}
    evidence = "; ".join(f"{arm}: {', '.join(kinds)}" for arm, kinds in sources.items() if kinds)
    if not evidence:
        return Check(name, "unknown", "nothing was measured", why, essential=False)
    weak = [arm for arm, kinds in sources.items() if "frames" in kinds]
    return Check(name, "warn" if weak else "pass", evidence, why, essential=False)


def _planned(campaign: Campaign, step: int) -> int:
    benchmark = campaign.benchmark(step)
    if benchmark is not None:
        return benchmark.runs * benchmark.requests
    bench = campaign.settings_of(step).bench
    return (bench.runs or 0) * (bench.requests or 0) if bench else 0


def _plain(model: str) -> str:
    return model.strip().removesuffix(":latest").lower()
