"""The real programs: `fab` against EXO as published, on machines with a real SSH server; `make test-real`.

Everything is optional and says so where it is absent: tests/real/genuine.py has the names in the environment.
"""
