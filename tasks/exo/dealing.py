"""Which node gets which layers: EXO 0.0.15's own arithmetic, on the memory that it sees.

That of its RingMemoryWeightedPartitioningStrategy and map_partitions_to_shards, roundings included. An empty share is
left out of its list of shards, but not out of the ring: the ring's last node then finds no entry of its own (IndexError
in get_current_shard, in that node's log only), and every chat hangs although the topology is complete.
"""

from __future__ import annotations

from collections.abc import Mapping

from reports.text.format import size
from tasks.errors import StepError, one_each
from tasks.exo.probe import EMPTY_SHARE

_MIB = 2**20


def deal(seen_bytes: Mapping[str, int], layers: int) -> dict[str, int]:
    """Return how many layers EXO 0.0.15 deals to each node, in the ring's order; empty where a memory is not known."""
    seen = {key: memory // _MIB for key, memory in seen_bytes.items()}
    if not seen or not all(memory > 0 for memory in seen.values()):
        return {}
    ring = sorted(seen, key=lambda key: (seen[key], key), reverse=True)
    dealt, start = {}, 0.0
    for key in ring:
        end = round(start + seen[key] / sum(seen.values()), 5)
        past = layers if key == ring[-1] else int(end * layers)
        dealt[key] = max(0, past - int(start * layers))
        start = end
    return dealt


def empty_share(seen_bytes: Mapping[str, int], model: str, layers: int) -> StepError | None:
    """Name the nodes that get no layer by the memory that EXO sees, or that do not tell theirs; None where all do."""
    total = sum(memory for memory in seen_bytes.values() if memory > 0)
    none = {
        key: f"is dealt none of the {layers} layers of `{model}`: EXO sees {size(seen_bytes[key])} of {size(total)}"
        for key, count in deal(seen_bytes, layers).items()
        if not count
    }
    none |= {key: "does not tell EXO how much memory it has" for key, memory in seen_bytes.items() if memory < 0}
    if not none:
        return None
    needed = f"a layer for every node, about {size(total // layers)} of memory each: else every chat hangs or fails"
    return one_each(none, needed, EMPTY_SHARE.remedy)
