"""Checks of the answers: from the right model, to the same work, counted, and not failed."""

from __future__ import annotations

from collections import Counter

from records.campaign import Campaign
from records.samples import Sample
from reports.checks.check import Check
from reports.checks.evidence import first_few, lost_runs, lost_tries, schedule_samples, timed_by_arm
from reports.stats.runs import is_good
from reports.stats.summary import summary_of_values
from reports.text import format as fmt

WHY_ERRORS = "Requests that fail are not the average ones; dropping them flatters the arm that fails."
TEMPLATE_SHARE = 0.1
MANY_LOST, LOST_SHARE = 3, 1 / 3
"""A side that lost so many runs (repeats counted), and more than this share of those planned, loses them again and
again."""


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
    wrong += _other_files(campaign, step)
    if wrong:
        return Check(name, "fatal", first_few(wrong), why)
    untold = sorted({s.arm for s in samples if s.model_answered is None and is_good(s)})
    if untold:
        return Check(name, "unknown", f"{', '.join(untold)}: answers without the model's name", why)
    answered = sorted({f"{s.arm}: {s.model_answered}" for s in samples if s.model_answered is not None})
    return Check(name, "pass" if answered else "unknown", "; ".join(answered) or "no answer named its model", why)


def _other_files(campaign: Campaign, step: int) -> list[str]:
    """Name the Ollamas that loaded another model under the same name from some run on: pulled or made anew."""
    loaded: dict[str, dict[str, int]] = {}
    for note in campaign.conditions.get(step, []):
        own = next((m for m in note.memory_before.get(note.arm, []) if m.name == note.ollama_name), None)
        if own and own.digest and note.seen_unloaded:  # else another name of the file may be listed, with its digest
            loaded.setdefault(note.arm, {}).setdefault(own.digest, note.run)
    named = []
    for arm, since in loaded.items():
        first, *later = since
        named += [
            f"{arm} had another model of that name from run {since[new]} on (digest {new[:12]}, {first[:12]} before)"
            for new in later
        ]
    return named


def same_work(campaign: Campaign, step: int) -> Check:
    """Tell whether both engines had the same prompts and wrote answers of the same length."""
    name, why = "same work", "Longer answers and other prompts cost other times; a rate hides only part of it."
    by_arm = timed_by_arm(campaign, step)
    exo = next((members for members in by_arm.values() if members[0].engine == "exo"), [])
    others = {arm: members for arm, members in by_arm.items() if members[0].engine != "exo"}
    if not exo or not others:
        return Check(name, "unknown", "one of the engines was not measured", why)
    prompts = {(s.run, s.request): s.prompt_sha256 for s in exo}
    tries = {(s.run, s.request): s.attempt for s in exo}
    wrong, untold, lengths, templates = [], [], [], []
    length = summary_of_values(float(s.output_tokens or 0) for s in exo if is_good(s))
    for arm, members in others.items():
        # A try at a run that another try was lost of has prompts of its own: the same words in another order.
        shared = [(s, prompts[s.run, s.request]) for s in members if tries.get((s.run, s.request)) == s.attempt]
        differing = [s for s, prompt in shared if s.prompt_sha256 and prompt and s.prompt_sha256 != prompt]
        if differing:
            wrong.append(f"{arm}: {len(differing)} of {len(shared)} prompts are not those that EXO had")
        templates += _prompt_tokens(arm, exo, members)
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
    evidence = f"equal prompts by run and request; {'; '.join(lengths)}"
    if any(far for far, _ in templates):
        words = "; ".join(words for far, words in templates if far)
        return Check(name, "warn", f"the chat templates differ: {words}. {evidence}", why)
    return Check(name, "pass", "; ".join([evidence, *(words for _, words in templates)]), why)


def _prompt_tokens(arm: str, exo: list[Sample], members: list[Sample]) -> list[tuple[bool, str]]:
    """Return whether the prompts of two arms differ by more than TEMPLATE_SHARE in tokens, and the counts in words.

    The texts are equal; what each engine's chat template puts around them is not, and some servers count without it.
    """
    means = [
        summary_of_values(float(s.prompt_tokens) for s in of if is_good(s) and s.prompt_tokens) for of in (exo, members)
    ]
    ours, theirs = means
    if ours is None or theirs is None:
        who = " and ".join(name for name, told in (("EXO", ours), (arm, theirs)) if told is None)
        return [(False, f"prompt tokens not told by {who}")]
    far = abs(ours.mean - theirs.mean) > TEMPLATE_SHARE * theirs.mean
    return [(far, f"prompts of {ours.mean:.0f} tokens for EXO, {theirs.mean:.0f} for {arm}")]


def errors(campaign: Campaign, step: int) -> Check:
    """Tell whether too many of an arm's requests failed, or too many of its runs were lost.

    A run with a failed request is lost and measured again as a whole, so its failure counts once, as a lost run; what
    was never sent is no failure. Where no run was marked as lost, each failed request counts.
    """
    name, why = "errors", WHY_ERRORS
    by_arm = timed_by_arm(campaign, step)
    lost = lost_tries(campaign, step)
    if not by_arm and not lost:
        return Check(name, "unknown", "nothing was measured", why)
    if lost:
        found = keeps_losing(campaign, step)
        silent = [arm for arm in {n.arm: None for n in lost} if not any(is_good(s) for s in by_arm.get(arm, []))]
        if not silent:
            return found
        return Check(name, "fatal", f"no good run of {', '.join(silent)}; {found.evidence}", why)
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


def keeps_losing(campaign: Campaign, step: int) -> Check:
    """Tell whether a side lost so many runs, repeats counted, that those it kept do not stand for it."""
    benchmark = campaign.benchmark(step)
    bench = campaign.settings_of(step).bench
    planned = benchmark.runs if benchmark else (bench.runs if bench else 0) or 0
    lost = lost_tries(campaign, step)
    tries = Counter(note.arm for note in lost)
    often = [
        f"{arm} lost {count} runs" for arm, count in tries.items() if count >= max(MANY_LOST, LOST_SHARE * planned)
    ]
    over = Counter(arm for arm, _ in lost_runs(campaign, step))
    gone = [f"{arm}: {fmt.count(count, 'round')} of {planned} lost" for arm, count in over.items()]
    told = [f"{note.arm} run {note.run} was lost{_in_words(note.attempt)} ({note.lost})" for note in lost]
    evidence = "; ".join([*often, *gone, first_few(told)])
    return Check("errors", "fatal" if often else "warn" if lost else "pass", evidence, WHY_ERRORS)


def _in_words(attempt: int) -> str:
    return "" if attempt == 1 else " again" if attempt == 2 else f" in try {attempt}"


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
    return model.strip().lower().removesuffix(":latest")
