"""`python -m rehearsal.ollama ADDRESS PORT HOME`: one Ollama stand-in, told the rest by HOME/.rehearsal.json."""

from __future__ import annotations

import sys
from pathlib import Path

from rehearsal.engine.gpu import Gpu
from rehearsal.engine.settings import Settings
from rehearsal.engine.wire import listen, serve
from rehearsal.ollama.api import Api


def main() -> None:
    """Serve until killed."""
    address, port, home = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    api = Api(Settings("ollama", home), Gpu(Settings("gpu", home)))
    serve(listen(address, port), api.answer, api.broken)


if __name__ == "__main__":
    main()
