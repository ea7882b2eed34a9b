"""What rules that look only at point estimates would say. Printed beside the verdict, never voting."""

from __future__ import annotations

import msgspec


class NaiveRule(msgspec.Struct, frozen=True):
    """One such rule: the ratio it looks at and the plan's word for it (`SUCCESS`, `PARTIAL`, `FAIL` or `-`)."""

    name: str
    ratio: float | None
    says: str
    note: str
