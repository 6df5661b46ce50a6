# Targets for developers and CI. Each target does its own set-up.
PYTHON ?= python3.11
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # if it is set, each process started by a test compiles every module again

.PHONY: help demo run dev test unit check lint types format lock chaos bench bench-scale fuzz soak binary browser screenshots image audit clean
.DEFAULT_GOAL := help

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or run make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/locked: requirements.txt .venv/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	@touch $@

.venv/locked-dev: requirements-dev.txt .venv/bin/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@ .venv/locked

demo: .venv/locked ## the service with embedded defaults and simulated users on http://localhost:5001
	@$(BIN)/python -m bg_ingest.cli demo

run: .venv/locked ## the service with your settings (.env)
	@$(BIN)/python -m bg_ingest.cli run

dev: .venv/locked-dev ## the same, with a restart at every change of the code
	@$(BIN)/python -m bg_ingest.cli run --reload

test: .venv/locked-dev ## the whole test suite
	$(BIN)/python -m pytest -q -n 3 --dist loadscope --no-loadscope-reorder --max-worker-restart=0 --integration=possible

unit: .venv/locked-dev ## tests that start neither a server nor a process, without the slow ones
	$(BIN)/python -m pytest -q -n logical --dist worksteal --max-worker-restart=0 --unit tests/unit tests/docs

check: lint types test ## format, lint, types, tests

lint: .venv/locked-dev ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/locked-dev ## mypy, strict
	$(BIN)/mypy

format: .venv/locked-dev ## format, and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/locked-dev ## resolve the dependencies again into both requirements files, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

chaos: .venv/locked-dev ## long runs: kills, outages, drains, memory, start, replicas (an hour; figures in docs/figures.md)
	$(BIN)/python -m tests.long.chaos.kills
	$(BIN)/python -m tests.long.chaos.drains
	$(BIN)/python -m tests.long.chaos.memory
	$(BIN)/python -m tests.long.chaos.years
	$(BIN)/python -m tests.long.chaos.starts
	$(BIN)/python -m tests.long.chaos.real_kills
	$(BIN)/python -m tests.long.chaos.outages
	$(BIN)/python -m tests.long.chaos.replicas --users 3000 --minutes 10
	$(BIN)/python -m tests.long.chaos.rolling
	$(BIN)/python -m tests.long.chaos.refreshes
	$(BIN)/python -m tests.long.chaos.streams
	$(BIN)/python -m tests.long.chaos.downloads
	$(BIN)/python -m tests.long.chaos.flood

bench-scale: .venv/locked-dev ## one process with up to 100,000 connections (25 minutes; figures in build/benchmarks/)
	$(BIN)/python -m tests.long.benchmarks.scale --json build/benchmarks/scale.json
	$(BIN)/python -m tests.long.benchmarks.balance
	$(BIN)/python -m tests.long.benchmarks.storm
	$(BIN)/python -m tests.long.benchmarks.handover

bench: .venv/locked-dev ## cost of operations beside a baseline: units, CPU, latency (figures in build/benchmarks/)
	$(BIN)/python -m tests.long.benchmarks.units --json build/benchmarks/units.json
	$(BIN)/python -m tests.long.benchmarks.reads --json build/benchmarks/reads.json
	$(BIN)/python -m tests.long.benchmarks.throughput --json build/benchmarks/throughput.json
	$(BIN)/python -m tests.long.benchmarks.polls --json build/benchmarks/polls.json
	$(BIN)/python -m tests.long.benchmarks.provider_calls
	$(BIN)/python -m tests.long.benchmarks.growth
	$(BIN)/python -m tests.long.benchmarks.transports --json build/benchmarks/transports.json
	$(BIN)/python -m tests.long.benchmarks.streams
	$(BIN)/python -m tests.long.benchmarks.stream_delay
	$(BIN)/python -m tests.long.benchmarks.stalled_streams

binary: .venv/locked-dev ## one executable file for any machine with Python 3.11: dist/bg-ingest, built and tested
	rm -rf build/binary
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: --no-compile --target build/binary -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-compile --upgrade --target build/binary .
	@mkdir -p dist
	$(BIN)/shiv --site-packages build/binary --console-script bg-ingest --python "/usr/bin/env python3.11" --reproducible --output-file dist/bg-ingest
	$(BIN)/python -m tests.long.chaos.binary dist/bg-ingest

fuzz: .venv/locked-dev ## 100,000 mutated pages of a provider, as many webhooks, and ten times the property examples
	$(BIN)/python -m tests.fuzz.run 100000
	$(BIN)/python -m tests.fuzz.pushing 100000
	EXPLORE=10 $(BIN)/python -m pytest -q -n logical -m hypothesis -o faulthandler_timeout=0

soak: .venv/locked-dev ## a month of fifty users under random faults, in virtual time
	$(BIN)/python -m tests.long.soak

audit: .venv/locked-dev ## search the dependencies for known vulnerabilities (needs the network; not in CI)
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements.txt

browser: .venv/locked-dev ## the page and the API page in Debian's Chromium (20 minutes; figures in docs/figures/page.md)
	$(BIN)/python -m pytest -q tests/browser --integration=all
	$(BIN)/python -m tests.long.chaos.browser
	$(BIN)/python -m tests.long.browser.first_view
	$(BIN)/python -m tests.long.browser.replica_kill
	$(BIN)/python -m tests.long.browser.crowd

screenshots: .venv/locked-dev ## pictures of each view of the page: light, dark, phone (build/screenshots/)
	$(BIN)/python -m tests.browser.screenshots build/screenshots

image: .venv/locked-dev ## build the container image without a container engine, start it, and stop it
	$(BIN)/python -m tests.long.chaos.image

clean: ## remove the virtual environment and caches (data stays)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
