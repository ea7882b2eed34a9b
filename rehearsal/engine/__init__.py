"""What all stand-in servers share: HTTP down to the byte, token times, a tokenizer, settings. Standard library only.

`rehearsal.sources` copies this package into the stand-in `exo` as `exo.engine`, so only relative imports work here.
"""
