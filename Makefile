# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
SERVERS ?= containers
ENGINE ?= packaged
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

# Prefect's server and the platform need different versions of FastAPI
.venv-prefect/installed: .venv/installed requirements-prefect.lock
	$(UV) venv --quiet --clear --python .venv/bin/python .venv-prefect
	$(UV) pip install --quiet --python .venv-prefect/bin/python --requirements requirements-prefect.lock
	$(UV) pip install --quiet --python .venv-prefect/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

prefect: .venv-prefect/installed ## .venv-prefect with the flows of deploy/prefect, for those who keep Prefect

demo: install ## the whole story on the embedded platform, with a measured report
	.venv/bin/drp demo

up: install ## the embedded platform, until Ctrl-C
	.venv/bin/drp up

test: .venv/installed-dev .venv-prefect/installed ## the whole suite, against real servers
	.venv/bin/pytest -n 3 --dist loadfile

compose-test: .venv/installed-dev ## the deployed form, on a Docker engine; DRP_COMPOSE_IMAGES=real with the official images
	DRP_COMPOSE_IMAGES=$${DRP_COMPOSE_IMAGES:-stand-in} .venv/bin/pytest tests/compose

servers-test: .venv/installed-dev ## contract and integration tests on other servers: SERVERS=urls, or embedded with ENGINE=system
	.venv/bin/pytest -n 2 --dist loadfile tests/contract tests/integration --servers $(SERVERS) --redis-engine $(ENGINE)

check: .venv/installed-dev ## ruff, mypy --strict, import contracts, unit tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -q -n 2 tests/unit

pictures: .venv/installed-dev ## docs/images, of the demo and the console, in Chromium
	.venv/bin/python -m tests.pictures

lock: .venv/bin/uv ## resolve the lock files again
	$(UV) $(COMPILE) --extra embedded --group build pyproject.toml --output-file requirements.lock
	$(UV) $(COMPILE) --extra embedded --group dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock
	$(UV) $(COMPILE) --extra prefect --group build pyproject.toml --output-file requirements-prefect.lock

.PHONY: help install prefect demo up test compose-test servers-test check lock pictures
