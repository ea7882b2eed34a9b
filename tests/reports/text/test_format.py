"""Numbers as people read them: each with its unit, and no more digits than it carries."""

from __future__ import annotations

import pytest

from reports.text import format as fmt


@pytest.mark.parametrize(
    ("seconds", "exact", "estimate"),
    [
        (None, fmt.UNKNOWN, None),
        (0.0, "0 s", "about 1 s"),
        (0.00042, "0.420 ms", "about 1 s"),
        (0.12, "120 ms", "about 1 s"),
        (3.42, "3.42 s", "about 3 s"),
        (36.0, "36.0 s", "about 36 s"),
        (99.6, "99.6 s", "about 1 min 40 s"),
        (725.0, "12 min 5 s", "about 12 min 5 s"),
        (1800.0, "30 min", "about 30 min"),
        (7380.0, "2 h 3 min", "about 2 h 3 min"),
        (7200.0, "2 h", "about 2 h"),
    ],
)
def test_durations(seconds: float | None, exact: str, estimate: str | None) -> None:
    """A measured time keeps three digits; an estimated one is in whole seconds and says that it is one."""
    assert fmt.duration(seconds) == exact
    if seconds is not None:
        assert fmt.about(seconds) == estimate


@pytest.mark.parametrize(
    ("bytes_", "words"), [(0, "0 B"), (999, "999 B"), (6.43e9, "6.43 GB"), (250_000, "250 kB"), (2.5e12, "2.50 TB")]
)
def test_sizes_are_decimal(bytes_: float, words: str) -> None:
    """Sizes are in decimal units, as disks and model cards are labelled."""
    assert fmt.size(bytes_) == words


def test_many_names_are_cut_and_alike_ones_said_once() -> None:
    """Thirty nodes of one version are a few words, and who differs is named."""
    versions = dict.fromkeys((f"n{number}" for number in range(30)), "3.12.3") | {"n7": "3.13.0"}
    assert fmt.alike(versions) == "3.12.3 (n0, n1, n2, n3, n4 and 24 more), 3.13.0 (n7)"
    assert fmt.few(["a", "b"]) == "a, b"
    assert fmt.few(list("abcde")) == "a, b, c, d, e"
    assert fmt.few([]) == ""
