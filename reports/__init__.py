"""Everything behind the fence: reads `logs/`, never touches the world, renders the same bytes from the same logs."""

VERSION = "0.1.0"
"""Of this program; every record carries it. A test holds it to pyproject.toml."""
