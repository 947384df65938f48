# Every target sets up what it needs: a fresh machine with Python >= 3.11 and make is enough.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix bench docs clean

PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.ready
ROWS ?=

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## create .venv with the project (editable) and its tools

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "EmbedMQ needs Python 3.11 or newer; none found on PATH (or: make PYTHON=/path/to/python3)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "could not create .venv; on Debian or Ubuntu: apt install python3-venv"; rm -rf .venv; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## real Kafka, real Redis, one worker: embed 2,000 docstrings and search them
	@$(BIN)/embedmq demo

test: $(STAMP)  ## the whole suite, against real Kafka and real Redis
	@$(BIN)/python -m pytest

check: $(STAMP)  ## formatter, linter, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

fix: $(STAMP)  ## format and apply the linter's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## every benchmark this machine can run (ROWS=transport,idle selects); writes build/bench.json
	$(BIN)/python -m benchmarks $(ROWS)

docs: $(STAMP)  ## regenerate what is generated: schemas, AsyncAPI, settings, metrics, command line
	$(BIN)/python -m docs.generate

clean:  ## remove the environment and build outputs
	rm -rf .venv build dist
