# One venv, made from the lock file; every target needs only Python 3.11-3.13, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Three workers for two cores, each with servers of its own: at a third of its tests a worker waits, for a lease or a timer.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) * 3 // 2 or 1)')
PURE_TESTS := tests/domain tests/event_store tests/golden tests/sdk tests/test_architecture.py tests/test_catalogue.py

SELECTED := not soak and not conformance$(if $(FAST), and not server)

.PHONY: demo up test check conformance soak bench docs lock clean

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "l02 needs Python 3.11, 3.12 or 3.13 (this is %s); say which with make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.installed  ## the main job, end to end, in under 30 seconds
	$(BIN)/l02 demo

up: $(VENV)/.installed  ## a node in the foreground, with its embedded servers
	$(BIN)/l02 up

test: $(VENV)/.installed  ## every test but the long and the foreign ones, on real servers; FAST=1: those that need none
	$(BIN)/python -m pytest -m "$(SELECTED)" -n $(WORKERS) --dist worksteal $(if $(FAST),$(PURE_TESTS))

conformance: $(VENV)/.installed  ## what others have written, the package as it is installed, CONTRIBUTING followed to the letter
	$(BIN)/python -m pytest -m conformance -n $(WORKERS) --dist worksteal --timeout 600

check: $(VENV)/.installed  ## linter, formatter, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.installed  ## long randomized fault runs
	$(BIN)/python -m pytest -m soak --timeout 3600

bench: $(VENV)/.installed  ## our figures and our peers' in one run; BENCH=--large adds a million events
	$(BIN)/python -m benchmarks $(BENCH)

docs: $(VENV)/.installed  ## what is written from the code: the catalogue, the picture of the rooms, golden files of what is new
	$(BIN)/python -m l02.catalogue docs/
	$(BIN)/python -m tests.rooms
	$(BIN)/python -m tests.golden.write

lock:  ## resolve pyproject.toml into requirements.lock again (needs uv)
	uv pip compile --universal --python-version 3.11 --group dev --all-extras --generate-hashes --no-header \
		--no-emit-index-url --quiet --upgrade pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
