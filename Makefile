# Every target sets up what it needs: a fresh machine with Python >= 3.11 and make is enough.
.DEFAULT_GOAL := help
.PHONY: help setup environment demo test faults fuzz check fix bench simulate audit docs deploy-check clean

PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.ready
UV_VERSION := 0.13.9
# Several makes at once take turns; where there is no flock (macOS) they had better not meet.
IN_TURN := $(shell command -v flock >/dev/null 2>&1 && echo flock pyproject.toml)
ROWS ?=

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## create .venv with the project (editable) and its tools

$(STAMP): pyproject.toml constraints.txt
	@$(IN_TURN) $(MAKE) --no-print-directory environment

# Whoever waited for its turn may find the work done. A .venv whose pip does not run was left half made: begin again.
environment:
	@{ test $(STAMP) -nt pyproject.toml && test $(STAMP) -nt constraints.txt; } || { \
	test -n "$(PYTHON)" || { echo "EmbedMQ needs Python 3.11 or newer and found none on PATH: install it, or name it: make PYTHON=/path/to/python3"; exit 2; }; \
	echo "setting up .venv (the first time: a minute or two, and about 5 GB, most of it torch)"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv >/dev/null 2>&1 || \
		{ rm -rf .venv; echo "$(PYTHON) cannot make .venv: it lacks venv or ensurepip (Debian, Ubuntu: apt install python3-venv), or this folder cannot be written"; exit 2; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	$(BIN)/uv --system-certs pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]' || \
		{ echo "could not install: see above; is there a network? (a company's: HTTPS_PROXY, PIP_CERT, UV_INDEX_URL)"; exit 2; }; \
	touch $(STAMP); }

demo: $(STAMP)  ## real Kafka, real Redis, one worker: embed 2,000 docstrings and search them
	@$(BIN)/embedmq demo

# Three processes with a Kafka and a Redis each, for much of a test is waiting; those of one file run in one, in order.
test: $(STAMP)  ## the whole suite, against real Kafka and real Redis
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

# What is set in the environment or on make's command line (SEED=7) reaches these two as it is.
faults: $(STAMP)  ## all of the fault suite: killed, cut and corrupted while requests are in flight (SEED=7 ROUNDS=3)
	@$(BIN)/python -m tests.faults

fuzz: $(STAMP)  ## millions of bred inputs for every decoder of bytes from outside (SEED=7 RUNS=100000)
	@$(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python -c constraints.txt --group fuzz
	@$(BIN)/python -m tests.fuzz

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

# Known holes need a database of them, which PyPI's own index has and a mirror may not: then this fails, and says so.
audit: $(STAMP)  ## what producers and workers install (build/sbom-*.json, CycloneDX), held against known vulnerabilities
	@$(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python -c constraints.txt --group audit
	@mkdir -p build
	@for part in producer worker; do \
	$(BIN)/uv --system-certs pip compile --quiet --universal --no-header --no-annotate --python-version 3.11 -c constraints.txt \
		$$(test $$part = worker && echo --extra worker) pyproject.toml -o build/requirements-$$part.txt >/dev/null && \
	$(BIN)/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible -o build/sbom-$$part.json \
		build/requirements-$$part.txt && echo "wrote build/sbom-$$part.json" || exit 1; done
	@$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r build/requirements-worker.txt

simulate: $(STAMP)  ## a fleet on a virtual clock, by model against round robin (SEED=1 WORKERS=1000 MODELS=10000)
	$(BIN)/python -m benchmarks.simulate --seed $(or $(SEED),1) --workers $(or $(WORKERS),1000) --models $(or $(MODELS),10000)

docs: $(STAMP)  ## regenerate what is generated (schemas, settings, metrics, …), then build/site, its links checked
	$(BIN)/python -m docs.generate
	@$(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python -c constraints.txt --group site
	@$(BIN)/python -m docs.site

# The tools are built into build/tools once: helm takes a minute or two, and Go.
deploy-check: $(STAMP)  ## the image's steps, chart, compose.yaml and alerts, by helm, kubeconform, hadolint, promtool
	@$(BIN)/uv --system-certs pip install --quiet --python $(BIN)/python -c constraints.txt --group deploy
	@$(BIN)/python -m pytest --timeout 1200 tests/deploy/check_*.py

clean:  ## remove the environment and build outputs
	rm -rf .venv build dist
