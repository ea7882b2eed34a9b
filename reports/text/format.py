"""Numbers -> the words a report shows. Every one of them takes None, for a number that nobody could tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite

from reports.text.escape import one_line

UNKNOWN = "not known"


def rate(tokens_per_s: float | None) -> str:
    """Write tokens per second in three digits: `8.42`, `31.4`, `142`."""
    return UNKNOWN if tokens_per_s is None else digits(tokens_per_s)


def digits(value: float) -> str:
    """Write three digits that mean something, without an exponent."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", "\u2009")
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.01 else f"{value:.2g}"


def ratio(value: float | None) -> str:
    """Write a speed-up as a factor: `1.42×`."""
    return UNKNOWN if value is None else f"{value:.2f}×" if value >= 0.095 else f"{value:.3f}×"


def percent_faster(value: float | None) -> str:
    """Write a speed-up in the plan's words: `+42.0%`."""
    return UNKNOWN if value is None else f"{(value - 1) * 100:+.1f}%".replace("-", "−")


def interval(lower: float | None, upper: float | None, against: float | None = None, joint: str = "to") -> str:
    """Write an interval of a ratio: `1.36 to 1.48`; never rounded onto the number it is held `against`."""
    if lower is None or upper is None:
        return UNKNOWN
    if not isfinite(upper):
        return "without bounds, for want of rounds"
    return f"{bound(lower, against)} {joint} {bound(upper, against)}"


def bound(value: float, against: float | None = None) -> str:
    """Write two decimals, or as many as it takes not to look equal to `against` (four at most)."""
    for decimals in (2, 3):
        text = f"{value:.{decimals}f}"
        if against is None or value == against or text != f"{against:.{decimals}f}":
            return text
    return f"{value:.4f}"


def fraction(value: float | None) -> str:
    """Write a share as a percentage: `3.1%`."""
    if value is None:
        return UNKNOWN
    share = value * 100
    return f"{share:.2g}%" if 0 < abs(share) < 1 else f"{share:.1f}%" if abs(share) < 10 else f"{share:.0f}%"


def both_bounds(confidence: float) -> str:
    """Return what an interval of two one-sided bounds of this confidence (0 to 1) is called."""
    return f"{fraction(2 * confidence - 1)} interval, {fraction(confidence)} each way"


def duration(seconds: float | None) -> str:
    """Write a time as people read it: `0.420 ms`, `120 ms`, `3.42 s`, `12 min 5 s`, `2 h 3 min`."""
    if seconds is None:
        return UNKNOWN
    size = abs(seconds)
    if size < 1:
        return f"{digits(seconds * 1000)} ms" if size else "0 s"
    if size < 100:
        return f"{digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    large, small = (f"{minutes} min", f"{rest} s") if minutes < 60 else (f"{minutes // 60} h", f"{minutes % 60} min")
    return large if small.startswith("0 ") else f"{large} {small}"


def about(seconds: float) -> str:
    """Write a time that is an estimate, in whole seconds: `about 36 s`, `about 12 min 5 s`."""
    whole = max(1, round(seconds))
    return f"about {whole} s" if whole < 100 else f"about {duration(whole)}"


def size(bytes_: float | None) -> str:
    """Write a size in decimal units, as disks and model cards are labelled: `6.43 GB`."""
    if bytes_ is None:
        return UNKNOWN
    value = float(bytes_)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{digits(value)} {unit}"
        value /= 1000
    return f"{digits(value)} TB"


def moment(utc: str) -> str:
    """Write a record's time stamp to the second, `2026-01-31 12:00:05 UTC`; the text itself where it is none."""
    try:
        return f"{datetime.fromisoformat(utc).strftime('%Y-%m-%d %H:%M:%S')} UTC"
    except ValueError:
        return utc


def yes_no(value: bool | None) -> str:
    """Write `yes`, `no` or that it is not known."""
    return UNKNOWN if value is None else "yes" if value else "no"


def arm_label(arm: str, engine: str) -> str:
    """Name an arm for a reader: `EXO`, `Ollama srv1`."""
    return "EXO" if engine == "exo" else f"Ollama {one_line(arm, 60)}"


def count(number: int, singular: str, plural: str = "") -> str:
    """Count things: `1 run`, `3 runs`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def listed(names: list[str]) -> str:
    """Join names: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def few(names: Sequence[str], shown: int = 5) -> str:
    """Join names as far as a line holds them: `a, b`, or `a, b, c, d, e and 25 more`."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def alike(values: Mapping[str, str]) -> str:
    """Say who has what, each value once: `3.11.7 (srv1, srv2), 3.12.3 (rog)`."""
    who: dict[str, list[str]] = {}
    for name, value in values.items():
        who.setdefault(value, []).append(name)
    return ", ".join(f"{value} ({few(names)})" for value, names in who.items())
