"""Render one made-up campaign and tell what it took: `python -m benchmarks.one_report FOLDER SAMPLES`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from tests.support.full_campaign import write_campaign

SAMPLES_A_RUN = 12
"""Three arms, four requests of each."""
BASELINE_RUNS = 3
"""Of step 11, as hosts.yaml ships it: what grows is step 12."""


def main() -> int:
    """Write the campaign in a process of its own, so that its memory is not the report's, and render it."""
    folder, samples = Path(sys.argv[1]), int(sys.argv[2])
    logs = folder / "logs" / "made"
    logs.mkdir(parents=True)
    writer = os.fork()
    if not writer:
        write_campaign(logs, runs=BASELINE_RUNS, steps=range(1, 12))
        write_campaign(logs, runs=max(2, samples // SAMPLES_A_RUN), steps=range(12, 13))
        os._exit(0)
    os.waitpid(writer, 0)
    begin = time.process_time()
    from reports.render import write_report

    write_report(folder / "logs", folder / "docs", profile="made")
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": time.process_time() - begin, "memory_mb": memory_mb}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
