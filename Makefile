# A bare `make` lists the targets. Everything runs from .venv, made on first use from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help run up down test test-all lint docs sbom licenses release bench ui lock clean
PORT ?= 4200

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

# The lock is its own constraint, too: without it pip looks for the newest SQLAlchemy[asyncio], which no hash is there for.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else f"expected Python 3.11, 3.12 or 3.13, found {v.major}.{v.minor}: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: .venv/.installed ## Make phantom images and run the whole pipeline on them (about 3 minutes)
	$(BIN)/cxr demo --out work/demo

up: .venv/.installed ## Prefect server, worker, deployments and UI on loopback (PORT=4200); state in work/prefect
	$(BIN)/python -m deployments.stack up --port $(PORT)

down: ## End what `make up` started; its state stays
	@test ! -x $(BIN)/python || $(BIN)/python -m deployments.stack down

test: .venv/.installed ## Fast tests on phantom images (a few minutes)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: test ## The fast tests, then the slow ones: servers, browser, whole runs (real images where they are present)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m slow  # by number of tests the longest files would come last

lint: .venv/.installed ## Style, types, and who imports whom: ruff, mypy, import-linter (a minute at first, then seconds)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed ## Build the site of docs/ into build/site (seconds); a broken link or a missing page is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict # not --quiet: that hides warnings from --strict, too

sbom: .venv/.installed ## Write the software bill of materials of requirements.lock: build/sbom.json (CycloneDX)
	$(BIN)/python -m deployments.sbom build/sbom.json

licenses: .venv/.installed ## List the licences of all dependencies; one that is unknown or not allowed is an error
	$(BIN)/python -m deployments.licenses

release: .venv/.installed ## Check and build a release (VERSION=1.2.3), and try its wheel; tags nothing
	$(BIN)/python -m deployments.release $(VERSION)

# The last two need what not every machine has: full-size images beside the checkout, a RADOS gateway.
BENCHES := streams precision gpu near_duplicates intervals inference scale memory prediction_rows startup trigger runners preprocessing storage
bench: .venv/.installed ## Measure, for hours: every bench but those of models and the notebook (docs/results.md lists them all)
	@for each in $(BENCHES); do echo "bench.$$each"; $(BIN)/python -m bench.$$each || exit 1; done

ui: .venv/.installed ## Look at past runs in the Prefect UI, on loopback (PORT=4200)
	$(BIN)/cxr ui --port $(PORT)

lock: ## Resolve pyproject.toml into requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --extra redis --universal --python-version 3.11 --generate-hashes --no-header --quiet -o requirements.lock

clean: down ## Remove .venv, caches and the demo's work folder; the server's state in work/prefect stays
	rm -rf .venv work/demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
