# `make rehearse`, `make check` and `make test` are all a stranger needs; each sets up what it uses.
# Needs Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The lanes start Python some thousand times: not to keep what was compiled would double their processor time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup rehearse check test pytest-check pytest-test test-long test-faults test-real coverage lint lock docs schemas clean

setup: $(VENV)/run.stamp

rehearse: $(VENV)/run.stamp
	$(BIN)/fab rehearse

# Each beside `lint`, of which mypy takes one processor for a quarter of a minute.
# check, in a minute and a half: all but the tests that start a rehearsal, simulate campaigns, install or take long.
check test: $(VENV)/dev.stamp
	$(MAKE) --no-print-directory --jobs=2 lint pytest-$@

pytest-check: $(VENV)/dev.stamp
	$(BIN)/pytest -n 5 --ignore=tests/real -m "not (rehearsal or simulation or install or long)"

pytest-test: $(VENV)/dev.stamp
	$(BIN)/pytest --ignore=tests/real -m "not long"

# What `make test` leaves out so that a change lands within a quarter of an hour: more campaigns, and the dearest traps.
test-long: $(VENV)/dev.stamp
	$(BIN)/pytest --ignore=tests/real -m long

# The whole fault matrix, once: every step under every fault, on three machines in namespaces; root, and some hours.
test-faults: $(VENV)/dev.stamp
	$(BIN)/pytest -n 0 tests/faults
	$(BIN)/python -m tests.faults --labs 2 --outcomes .faults.jsonl

# On genuine programs, which the environment names (README.md); what is absent is said and skipped. Root, for namespaces.
test-real: $(VENV)/dev.stamp
	$(BIN)/pytest -n 0 --capture=no tests/real

# Lines and branches that the tests reach, in the programs that they start too; pyproject.toml says what is left out.
coverage: $(VENV)/dev.stamp
	rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest --ignore=tests/real
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The lock names every file's hash, so an install brings the very bytes that were tested.
$(VENV)/run.stamp: requirements.lock scripts/fab | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	install -m 755 scripts/fab $(BIN)/fab
	touch $@

$(VENV)/dev.stamp: requirements-dev.lock scripts/fab | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	install -m 755 scripts/fab $(BIN)/fab
	touch $@ $(VENV)/run.stamp

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is older than 3.11; needed: Python >= 3.11; do: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The trap gallery's page, from the gallery's own sentences.
docs: $(VENV)/run.stamp
	$(BIN)/python -m rehearsal.traps > docs/traps.md

# JSON Schemas of hosts.yaml, records, samples and the report's numbers, from the structs.
schemas: $(VENV)/run.stamp
	$(BIN)/python -m tasks.schemas

# The pictures of docs/architecture.md, from the imports.
.PHONY: architecture
architecture:
	$(PYTHON) scripts/draw_architecture.py

# Renews both locks from the ranges in pyproject.toml; needs uv.
lock:
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .rehearsal .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
