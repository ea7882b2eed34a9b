"""EXO 1.x; see below."""
