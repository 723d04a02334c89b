# Each target does all of its own set-up; a second run skips what is there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SPREAD := --dist loadgroup --no-loadscope-reorder
# one test at a time to whoever is free, in the order of tests/conftest.py: the longest begin first
READY := $(VENV)/.ready-$(shell cat pyproject.toml requirements.lock 2>/dev/null | cksum | cut -d' ' -f1)

.PHONY: help demo test check unit db web e2e test-docker images browser mutants chaos nodes chromium lint types contracts lock schema clean

help: ## what there is to make
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 18

$(READY): pyproject.toml requirements.lock
	@scripts/setup "$(PYTHON)" "$(VENV)"
	@rm -f $(VENV)/.ready-* && touch $@

nodes: $(READY) ## bitcoind and LND: found, or fetched and built once
	@$(BIN)/python -m lightning.regtest.binaries

chromium: ## a browser for the page tests (Debian's package)
	@scripts/chromium

demo: $(READY) nodes ## real nodes, one job sold, worked, refunded; then it serves (ARGS=--once: then it exits)
	@$(BIN)/boltworks demo $(ARGS)

test: $(READY) lint types contracts nodes chromium ## everything: checks, pure, database, web, real nodes, browser
	@$(BIN)/pytest -n 4 $(SPREAD) tests/unit tests/db tests/web $(ARGS)
	@$(BIN)/pytest -n 3 $(SPREAD) tests/contract tests/e2e $(ARGS)
	@$(BIN)/pytest tests/browser $(ARGS)

check: $(READY) lint types contracts ## style, types, import contracts, fast tests
	@$(BIN)/pytest -q -n 4 $(SPREAD) tests/unit tests/db tests/web -m "not slow" $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

contracts: $(READY)
	@$(BIN)/lint-imports

unit: $(READY) ## pure tests
	@$(BIN)/pytest tests/unit $(ARGS)

db: $(READY) ## tests on a real PostgreSQL
	@$(BIN)/pytest tests/db $(ARGS)

web: $(READY) ## tests of the HTTP face, on a real PostgreSQL and a node that is faked
	@$(BIN)/pytest tests/web $(ARGS)

e2e: $(READY) nodes ## tests on real bitcoind and LND, three networks side by side
	@$(BIN)/pytest -n 3 $(SPREAD) tests/contract tests/e2e $(ARGS)

images: $(READY) ## the images of the docker stack: built here, once for each version
	@scripts/docker-engine start
	@$(BIN)/python -m lightning.regtest.docker.images

test-docker: images ## the same on containers, and containers killed, frozen and cut off
	@$(BIN)/pytest --stack=docker tests/contract tests/e2e tests/docker $(ARGS)

browser: $(READY) nodes chromium ## the page in a real browser, on real nodes
	@$(BIN)/pytest tests/browser $(ARGS)

mutants: $(READY) ## money rules broken on purpose, one by one: a named test must notice each
	@$(BIN)/python -m tests.mutants

chaos: $(READY) nodes ## kill and freeze everything at random under load (SECONDS=600 SEED=1 BUYERS=8), then compare all books
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) --buyers $(or $(BUYERS),8)

lock: $(READY) ## renew requirements.lock (versions and hashes, no addresses)
	@scripts/lock $(BIN)

schema: $(READY) ## renew the schema snapshot after a migration
	@BOLTWORKS_WRITE_SNAPSHOT=1 $(BIN)/pytest -q tests/db/test_migrations.py

clean: ## remove what make made here (not the cache of node binaries)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache artefacts *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
