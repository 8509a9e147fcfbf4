# One command sets up and runs (make run), one sets up and tests (make test). Both need python3 and make alone.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
# uv refuses some machines' certificates where pip does not; the system's are what pip uses.
export UV_SYSTEM_CERTS ?= 1
TEST_WORKERS ?= auto
NODE := $(CURDIR)/$(BIN)/python $(CURDIR)/scripts/node.py
DOCUMENTS := native topmail buttondown sendportal datamailer

.PHONY: setup run test fuzz check format openapi release-openapi docs lock clean

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
	cd tests/clients && $(NODE) npm ci --ignore-scripts --silent
	@touch $@

# Linters of the OpenAPI documents.
.make/linters: .make/installed openapi/lint/package.json openapi/lint/package-lock.json
	cd openapi/lint && $(NODE) npm ci --ignore-scripts --silent
	@touch $@

run: setup
	$(BIN)/polytag serve

test: setup .make/clients
	$(BIN)/python -m pytest -n $(TEST_WORKERS) $(ARGS)

# Requests that nobody thought of. SEED repeats a run, SECONDS is how long it takes, FRONT_END keeps it to one API.
fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) $(SEED:%=--seed %) $(FRONT_END:%=--front-end %)

check: setup .make/linters
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd openapi/lint && $(NODE) node_modules/.bin/redocly lint --config=redocly.yaml $(DOCUMENTS:%=../%.json)
	cd openapi/lint && $(NODE) node_modules/.bin/spectral lint --ruleset=spectral.yaml --fail-severity=hint \
		$(DOCUMENTS:%=../%.json)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documents that clients and SDKs are made from, as the service has them.
openapi: setup
	$(BIN)/python scripts/write_openapi.py

# Keeps the documents of a release, with which later ones are compared. Run it on the commit that releases.
release-openapi: openapi
	mkdir -p openapi/released
	cp $(DOCUMENTS:%=openapi/%.json) openapi/released

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
	rm -rf .venv .make tests/clients/node_modules openapi/lint/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
