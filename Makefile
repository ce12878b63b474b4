# The commands that people and CI run. Everything goes to .venv, .lab and ~/.cache/dpuchain; `make lab-down` and `make clean` undo it.
SHELL := /bin/bash
DPUS ?= 2
CLUSTERS ?= 1
DIRECTORY ?= .lab
SEED ?= 0
FIRST ?= 1
MINUTES ?= 5
SEEDS ?= 300
FLEET ?= --nodes 1000
PYTHON ?= python3
BIN := .venv/bin
LOCKS := requirements-bootstrap.lock requirements.lock pyproject.toml

.PHONY: help lab lab-down bootstrap controlplane check docs test chaos faults bench fleet wheel image release release-check e2e-install locks clean

help:
	@echo "make lab [DPUS=2] [CLUSTERS=1]   raise a rack of virtual DPUs and send a ping through the example's chain (root)"
	@echo "make lab-down                    take the rack down"
	@echo "make check                       lint, types, import law, size budgets, generated files"
	@echo "make docs                        the documentation as a site, into site/; a broken link is an error"
	@echo "make test                        every test (root)"
	@echo "make e2e-install                 the charts and the image on a rack without anything of ours, by Helm (root)"
	@echo "make chaos [SEED=0] [FIRST=1] [MINUTES=5]  random faults on a rack while frames pass, from the first on (root)"
	@echo "make faults [SEEDS=300] [SEED=0]  random faults between controllers and an API server, once for each seed"
	@echo "make bench                       the figures, as a table and as JSON (root)"
	@echo "make fleet [FLEET='--nodes 1000']  the figures of a simulated fleet beside those of a bare client"
	@echo "make wheel, make image           build what is installed, into dist/"
	@echo "make release                     wheel, charts, images, bills of materials and checksums of the commit, into an empty dist/ (root)"
	@echo "make release-check               build the release once more, elsewhere, and compare (root)"
	@echo "make locks                       pin the newest versions of all packages, with their hashes"
	@echo "make clean                       remove the virtual environment and the tools' caches"

lab: bootstrap
	@$(BIN)/dpuchain lab up --directory $(DIRECTORY) --dpus $(DPUS) --clusters $(CLUSTERS)

lab-down: .venv/installed
	@$(BIN)/dpuchain lab down --directory $(DIRECTORY)

bootstrap:
	@tools/packages.sh
	@$(MAKE) --silent .venv/installed

.venv/installed: $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo making the virtual environment .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests bench tools
	$(BIN)/lint-imports
	$(BIN)/python tools/check_budgets.py
	$(BIN)/python -m tools.generate_crds --check
	$(BIN)/python -m tools.dashboard --check
	$(BIN)/python tools/stamp_version.py --check
	$(BIN)/python -m dpuchain.flows.document | diff docs/pipeline.md - || { echo "docs/pipeline.md is not what dpuchain.flows.document writes"; exit 1; }
	$(BIN)/python -m tools.reference --check
	@$(MAKE) --silent docs

# Links and anchors that lead nowhere, and pages without a place, are errors.
docs: .venv/installed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict 2>&1 | grep -v '^INFO' >&2; exit $${PIPESTATUS[0]}

controlplane: bootstrap
	@$(BIN)/dpuchain lab build

test: controlplane
	@$(BIN)/python -m tools.tests

e2e-install: controlplane
	$(BIN)/pytest tests/integration/deploy tests/e2e/install

chaos: controlplane
	$(BIN)/python -m tests.chaos --seed $(SEED) --first $(FIRST) --minutes $(MINUTES)

faults: controlplane
	DPUCHAIN_FAULT_SEED=$(SEED) DPUCHAIN_FAULT_SEEDS=$(SEEDS) $(BIN)/pytest tests/property/test_faults.py

bench: controlplane
	$(BIN)/python -m bench

fleet: controlplane
	$(BIN)/python -m bench.fleet $(FLEET)

wheel: .venv/installed
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

image: bootstrap
	@$(BIN)/python -m tools.build_image dist

release: bootstrap
	rm -rf dist
	@$(BIN)/python -m tools.build_release dist

release-check: release
	@tools/check_release.sh

# The newest versions of everything, with hashes; `make check test` says whether they suit.
locks: .venv/installed
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --override requirements.overrides \
	    --extra dev --extra tracing --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --override requirements.overrides \
	    --extra tracing --constraint requirements.lock --output-file requirements.runtime.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
