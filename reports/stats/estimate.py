"""An estimate, not a bound, of the rate at which a pipeline over these nodes gives one stream of tokens.

A token must pass every layer, and the next token cannot begin before this one is known. So one stream pays for all
stages one after the other, plus the hops between the nodes. If a node's time were spread evenly over the layers:

    seconds per token = sum over nodes of share_i / rate_i + sum over the ring of hop_s

where share_i is node i's share of the layers and rate_i the rate at which it alone runs the whole model. It is not
spread evenly: embedding and head are computed once, on whichever node has that end of the model, and may cost more than
all layers together (on a CPU, in EXO 0.0.15). They are left open here, and so is how fast EXO's engine is beside
Ollama's, from which the rates come: real rings came out 1.14 to 1.76 times above this figure.

What holds for one engine and one set of weights: a single stream's ratio is at most 1 where one node is the fastest at
every part and the model fits it. A pipeline adds memory and throughput for many streams, not speed for one
(exo-explore/exo issues 55, 141 and 489; Huang et al., GPipe, 2019, section 2; Narayanan et al., PipeDream, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Stage(msgspec.Struct, frozen=True):
    """One node's part of the pipeline."""

    node: str
    rate_tokens_per_s: float
    """At which this node alone decodes the whole model."""
    share: float
    """Of the layers, 0 to 1; all shares add up to 1."""
    hop_s: float
    """From this node to the next one in the ring, the last one's back to the first (the sampled token's way)."""
    rate_known: bool = True
    """False where the rate was never measured and the fastest node's was taken."""


class PipelineEstimate(msgspec.Struct, frozen=True):
    """What a pipeline may cost per token and hence its rate, beside the fastest single node."""

    stages: list[Stage]
    token_s: float
    compute_s: float
    hops_s: float
    compute_share: float
    hop_share: float
    rate_tokens_per_s: float
    """With the layers split as in `stages`."""
    best_split_rate_tokens_per_s: float
    """With all layers on the fastest node, the ring's hops still paid."""
    fastest_node: str
    fastest_rate_tokens_per_s: float
    ratio: float
    """`rate_tokens_per_s` over the fastest single node's."""
    best_split_ratio: float


def pipeline_estimate(stages: Sequence[Stage]) -> PipelineEstimate:
    """Return the estimate of a pipeline over `stages`, in ring order.

    Raises ValueError where there is no stage, a rate is not above 0, a hop is below 0 or the shares do not add up to 1.
    """
    if not stages:
        raise ValueError("a pipeline needs at least one stage")
    if any(stage.rate_tokens_per_s <= 0 or stage.hop_s < 0 or stage.share < 0 for stage in stages):
        raise ValueError("a stage needs a rate above 0, and neither its hop nor its share may be below 0")
    if abs(sum(stage.share for stage in stages) - 1) > 1e-6:
        raise ValueError("the shares of the stages must add up to 1")
    compute_s = sum(stage.share / stage.rate_tokens_per_s for stage in stages)
    hops_s = sum(stage.hop_s for stage in stages) if len(stages) > 1 else 0.0
    token_s = compute_s + hops_s
    fastest = max(stages, key=lambda stage: stage.rate_tokens_per_s)
    best_s = 1 / fastest.rate_tokens_per_s + hops_s
    return PipelineEstimate(
        stages=list(stages),
        token_s=token_s,
        compute_s=compute_s,
        hops_s=hops_s,
        compute_share=compute_s / token_s,
        hop_share=hops_s / token_s,
        rate_tokens_per_s=1 / token_s,
        best_split_rate_tokens_per_s=1 / best_s,
        fastest_node=fastest.node,
        fastest_rate_tokens_per_s=fastest.rate_tokens_per_s,
        ratio=1 / token_s / fastest.rate_tokens_per_s,
        best_split_ratio=1 / best_s / fastest.rate_tokens_per_s,
    )


def stages_of(
    rates_tokens_per_s: Mapping[str, float],
    weights: Mapping[str, int],
    round_trip_s: Mapping[str, float],
) -> list[Stage]:
    """Build the ring from each node's layers, or what they are dealt by, in the ring's order.

    `round_trip_s` is from the bench node to each node (0 for itself). Between two others the difference of their
    round trips is taken, which no path can undercut by the triangle inequality. A hop is half a round trip. A node
    without a measured rate counts as fast as the fastest that has one.
    Raises ValueError where no rate or no weight is known.
    """
    total = sum(weights.values())
    if not rates_tokens_per_s or total <= 0:
        raise ValueError("an estimate needs the rate of one node and the shares of all")
    fastest, ring = max(rates_tokens_per_s.values()), list(weights)
    stages = []
    for node, after in zip(ring, ring[1:] + ring[:1], strict=True):
        trip_s = abs(round_trip_s.get(node, 0.0) - round_trip_s.get(after, 0.0))
        stages.append(
            Stage(
                node=node,
                rate_tokens_per_s=rates_tokens_per_s.get(node, fastest),
                share=weights[node] / total,
                hop_s=trip_s / 2 if len(ring) > 1 else 0.0,
                rate_known=node in rates_tokens_per_s,
            )
        )
    return stages
