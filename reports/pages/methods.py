"""How it was measured and what that does not show, in sentences; docs/methodology.md has the long form."""

from __future__ import annotations

from records import facts
from records.campaign import Campaign
from records.facts import RULE
from reports.checks.evidence import lost_tries, timed_by_arm
from reports.checks.prefill import overhead_of
from reports.stats.runs import is_good
from reports.stats.sample_size import plan_from_control
from reports.stats.time_spent import time_spent
from reports.text import format as fmt
from reports.text.table import clip

HELD_UP_S = 0.0005
"""What the instrument's own error may be; a sample that was held up longer is told of."""


def methods_said(campaign: Campaign) -> list[str]:
    """Return how the numbers came about, with this campaign's own settings."""
    limits = campaign.limits
    sentences = [
        "Speed-up is the ratio of output tokens per second, EXO over Ollama; "
        f"the target is {limits.target_ratio:.2f}× "
        f"({fmt.percent_faster(limits.target_ratio)} in rate, which is not as much less time).",
        "Output tokens over the wall time of the whole request, from one client on the bench node with a monotonic "
        "clock, is the one metric that votes; "
        "TTFT (time to first token), ITL (inter-token latency) and decode rate are shown and never do.",
        "The replicate is a run (the model freshly loaded, warm-ups discarded, then the timed requests); its value is "
        "the mean of the logarithms of its rates. Requests of one run are not independent of each other.",
        "The replicate of the comparison is the round: one run of every arm, next to each other in time, the order "
        "alternating. A round of which an arm has no run is lost.",
        "The arms' common trend over the campaign, a parabola, is taken out of the rounds' log ratios; their t "
        f"interval gives one-sided {limits.confidence:.0%} bounds, and exact signed-rank bounds with the "
        "Hodges-Lehmann estimate check them. GO needs the lower bound at or above the target against every baseline, "
        "NO-GO an upper bound below it against one; where the two methods disagree the verdict is INCONCLUSIVE.",
    ]
    benchmark = campaign.benchmark(12)
    if benchmark and benchmark.rule != RULE:
        sentences.append(
            "This campaign was planned with the rule of its time (two heaps of runs by Welch's t, or paired looks); it "
            "is judged here by the rule by rounds, on the same raw data."
        )
    sentences += _control(campaign)
    sentences += _held_up(campaign)
    sentences += _overheads(campaign)
    sentences += _lost(campaign)
    for number, title in ((11, "Baseline (step 11)"), (12, "Comparison (step 12)"), (13, "Larger model (step 13)")):
        benchmark = campaign.benchmark(number)
        if benchmark:
            sentences.append(f"{title}: {_schedule(benchmark)}{_time_spent(campaign, number)}")
    return sentences


def limits_said(campaign: Campaign) -> list[str]:
    """Return what this result does not show."""
    sentences = [
        "One request at a time: nothing here tells how either engine serves several people at once.",
        "These nodes, this network, these models and versions, on the day of the measurement; a new release is a new "
        "campaign (fab compare OLD NEW puts two side by side).",
        "The bounds cover the scatter between runs that was seen, not what no run varied: another day, another prompt "
        "set, a warmer room.",
    ]
    benchmark = campaign.benchmark(12)
    if benchmark:
        names = {clip(m.quantization or "not known", cap=40) for m in benchmark.ollama.values()}
        if benchmark.exo_precision or names:
            sentences.append(
                f"Precision: EXO {clip(benchmark.exo_precision, cap=60) or 'not known'}, Ollama "
                f"{fmt.listed(sorted(names)) or 'not known'}; where they differ, so do the weights, and a ratio "
                "compares the pair rather than the engines alone."
            )
    sources = {s.token_source for s in campaign.samples.get(12, [])}
    if "frames" in sources:
        sentences.append(
            "Some token counts are counted frames, because that server tells no count; with several tokens a frame "
            "such a count would be too low."
        )
    return sentences


def _control(campaign: Campaign) -> list[str]:
    """Return what the A/A control found and how many runs its noise asks for."""
    settling = plan_from_control(campaign.control, campaign.limits) if campaign.control else None
    if settling is None:
        return []
    needed = (
        f"{fmt.count(settling.rounds, 'round')} ({fmt.duration(settling.total_s)} in all) settle"
        if settling.rounds is not None
        else "no affordable number of rounds settles"
    )
    return [
        f"Control (Ollama against itself, {fmt.count(settling.control_rounds, 'round')}): the rounds scatter by "
        f"{fmt.fraction(settling.round_cv)}; at that noise {needed} {settling.alternative_ratio:.2f}× against "
        f"{settling.target_ratio:.2f}× with {fmt.fraction(settling.error)} error either way."
    ]


def _held_up(campaign: Campaign) -> list[str]:
    """Return how often the script itself was late, where Linux told."""
    told = [s for s in campaign.samples.get(12, []) if is_good(s) and s.held_up_s is not None]
    late_s = [s.held_up_s for s in told if s.held_up_s is not None and s.held_up_s > HELD_UP_S]
    if not late_s:
        return []
    return [
        f"In {fmt.count(len(late_s), 'timed request')} of {len(told)} another program had the bench node's processor "
        f"when the script was ready, for {fmt.duration(max(late_s))} at most: their TTFT is too long by so much "
        "(`held_up_s` of the samples)."
    ]


def _time_spent(campaign: Campaign, step: int) -> str:
    spent = time_spent(campaign, step)
    if spent is None:
        return ""
    requests, loading, rest = (s / spent.elapsed_s for s in (spent.requests_s, spent.loading_s, spent.rest_s))
    return (
        f" Of its {fmt.duration(spent.elapsed_s)}, requests and warm-ups took {fmt.fraction(requests)}, emptying "
        f"memory, restarting EXO and loading models {fmt.fraction(loading)}, everything else {fmt.fraction(rest)} "
        f"({fmt.duration(spent.rest_s / spent.runs)} a run)."
    )


def _overheads(campaign: Campaign) -> list[str]:
    """Return what each Ollama spends in every request of a loaded model, and how much of the ratio that is."""
    by_arm = timed_by_arm(campaign, 12) or timed_by_arm(campaign, 11)
    told = {arm: overhead for arm, members in by_arm.items() if (overhead := overhead_of(members))}
    if not told:
        return []
    each = "; ".join(f"{clip(arm, cap=40)}: {overhead.words}" for arm, overhead in told.items())
    return [
        f"Constant overhead (Ollama's `load_duration` while its model is loaded; part of the rate that votes): {each}."
    ]


def _lost(campaign: Campaign) -> list[str]:
    """Return every run that was lost, with the reason; it was measured again, and its requests are in the raw data."""
    return [
        f"Lost: step {step}, {clip(note.arm, cap=40)} run {note.run}, try {note.attempt}: {clip(note.lost, cap=400)}."
        " Its requests are in the raw data and in no rate; a lost run is measured again as a whole, once a round."
        for step in (11, 12, 13)
        for note in lost_tries(campaign, step)
    ]


def _schedule(benchmark: facts.Benchmark) -> str:
    reload = ", ".join(f"{clip(arm, cap=40)}: {clip(how, cap=40)}" for arm, how in benchmark.reload.items())
    model = f"{clip(benchmark.exo_model, cap=80)} on EXO, " if benchmark.exo_model else ""
    looks = " as many rounds as it took, with looks after 6, 12 and 18," if benchmark.until_decided else ""
    resumed = f" {benchmark.resumed} runs were kept from an interrupted call." if benchmark.resumed else ""
    context = (
        f" Context: {benchmark.num_ctx} tokens on every Ollama, set by us; EXO's own is not set and not told."
        if benchmark.num_ctx
        else ""
    )
    return (
        f"{model}{clip(benchmark.ollama_model, cap=80)} on Ollama;{looks} {fmt.count(benchmark.runs, 'run')} an arm, "
        f"{fmt.count(benchmark.requests, 'timed request')} and "
        f"{fmt.count(benchmark.warmups, 'warm-up')} a run, "
        f"{benchmark.max_tokens} output tokens, seed {benchmark.seed}. Loaded afresh by: {reload or 'not noted'}. "
        f"Order: {clip(' '.join(benchmark.order), cap=700) or 'not noted'}.{resumed}{context}"
    )
