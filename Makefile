# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
UV := .venv/bin/uv --system-certs
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## .venv with the drp command, from the lock

.venv/bin/uv:
	@$(PYTHON) deploy/preflight.py
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check uv

.venv/installed: .venv/bin/uv requirements.lock pyproject.toml
	$(UV) pip install --requirements requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(UV) pip install --requirements requirements-dev.lock
	@touch $@

demo: install ## the whole story on the embedded platform, with a measured report
	.venv/bin/drp demo

up: install ## the embedded platform, until Ctrl-C
	.venv/bin/drp up

test: .venv/installed-dev ## the whole suite, against real servers
	.venv/bin/pytest -n 2 --dist loadfile

check: .venv/installed-dev ## ruff, mypy --strict, import contracts, unit tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -q tests/unit

lock: .venv/bin/uv ## resolve the lock files again
	$(UV) $(COMPILE) --extra embedded --group build pyproject.toml --output-file requirements.lock
	$(UV) $(COMPILE) --all-extras --group dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

.PHONY: help install demo up test check lock
