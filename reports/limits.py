"""The limits of the decision, as hosts.yaml sets them and as every record carries them."""

from __future__ import annotations

from typing import Annotated

import msgspec

Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as faster, how sure the verdict must be, and where a measurement stops being valid."""

    target_ratio: Annotated[float, msgspec.Meta(gt=0)] = 1.30
    """GO needs EXO's rate over Ollama's to be at least this."""
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95
    """Of each one-sided bound."""
    length_tolerance: Fraction = 0.05
    """Largest relative difference of the sides' mean output lengths."""
    failed_fraction: Fraction = 0.05
    """Largest share of a side's timed requests that may fail."""
    instrument_fraction: Fraction = 0.01
    """Largest self-calibration error, relative to what was measured."""
    load_per_cpu: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """Largest one-minute load average per CPU just before a run."""
