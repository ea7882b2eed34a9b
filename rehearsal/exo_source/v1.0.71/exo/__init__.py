"""Stand-in for EXO 1.0.71; see the `rehearsal` package of exo-phase1."""
