"""The fence: what hosts.yaml says and what the steps leave, as typed structs. Imports nothing of ours."""

VERSION = "0.2.0"
"""Of this program; every record carries it. A test holds it to pyproject.toml."""
