# Three commands do everything: `make demo`, `make down` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
READY := .venv/.ready

.PHONY: help setup demo down test smoke-gcp lint docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 18

setup: $(READY) ## a virtual environment with the locked dependencies, and the Pulumi command line
	@.venv/bin/python tools/pulumi/install.py --bin-dir .venv/bin

$(READY): requirements.lock pyproject.toml tools/setup.sh
	@tools/setup.sh

demo: setup ## provision, train with 1 chief, 2 workers and 1 parameter server, evaluate, report: all on this machine
	@tools/demo.sh up

down: ## cancel what runs, pulumi destroy, stop the local cloud
	@tools/demo.sh down

test: setup ## unit, contract and end-to-end tests
	@# In two parts: TensorFlow, which some of the second load, is not loaded among the first's libraries. Each part is run by two
	@# processes, for much of a test is waiting; the tests of one file stay together.
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m pytest -n 2 --dist loadfile tests/unit tests/contract
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m pytest -n 2 --dist loadfile tests/e2e

smoke-gcp: setup ## everything once on a real project, and away again: PROJECT=… [REGION=…] [MAX_COST=2 (US dollars)]
	@PROJECT="$(PROJECT)" REGION="$(REGION)" MAX_COST="$(MAX_COST)" tools/smoke_gcp.sh

lint: $(READY) ## ruff, mypy, import-linter
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

docs: $(READY) ## the documentation as a site, site/index.html; and the generated pages that are committed
	@.venv/bin/python -m tools.docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

lock: $(READY) ## resolve requirements.lock, and from it trainer/requirements.lock, anew
	@.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		--group dev --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		--constraint requirements.lock --custom-compile-command "make lock" trainer/pyproject.toml \
		--output-file trainer/requirements.lock

clean: ## remove the virtual environment and the caches of the tools
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
