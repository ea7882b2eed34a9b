"""What may befall a cluster, step by step: `python -m tests.faults` runs the matrix and writes docs/faults.md."""
