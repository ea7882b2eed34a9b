"""Stand-in for EXO 0.0.15; see the `rehearsal` package of exo-phase1."""
