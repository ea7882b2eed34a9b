"""The table of docs/performance.md: `python -m benchmarks [ROUNDS] [LARGEST_REPORT]`.

Everything is measured in one run on one machine, and a figure is a ratio wherever there is something to compare with.
Peers (pyinfra, Ansible) are measured where they are found beside this interpreter or on the PATH.
"""

from __future__ import annotations

import os
import sys

from benchmarks.metronome import PROJECT
from benchmarks.own_part import own_part
from benchmarks.slow_nodes import lacking
from benchmarks.waiting import Row, preflight, report, start_up

PAGE = PROJECT / "docs" / "performance.md"
BEGIN, END = "<!-- python -m benchmarks: begin -->", "<!-- python -m benchmarks: end -->"


def main() -> int:
    """Measure, and put the table into the page."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    largest = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    rows = start_up(rounds)
    if missing := lacking():
        rows.append(Row("preflight over OpenSSH", f"not measured: {missing} is missing", "-", None))
    else:
        rows += preflight(rounds)
    rows += own_part(rounds)
    rows += report([size for size in (60, 1_000, 10_000, 100_000) if size <= largest])
    table = rendered(rows)
    print(table)
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")
    return 0


def rendered(rows: list[Row]) -> str:
    """Return the rows as a Markdown table, with the machine's load below: a busy machine moves even ratios."""
    words = {True: "yes", False: "no", None: "-"}
    lines = ["| what | found | wanted | reached |", "|:--|:--|:--|:--|"]
    lines += [f"| {row.what} | {row.found} | {row.wanted} | {words[row.reached]} |" for row in rows]
    load = os.getloadavg()[0]
    where = f"{os.cpu_count()} processors at a load average of {load:.1f}, its own thirty nodes included"
    return "\n".join([*lines, "", f"Measured on {where}.", ""])


if __name__ == "__main__":
    sys.exit(main())
