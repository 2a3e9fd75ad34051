# Everything a developer does, by name. `make help` lists the targets; each may be called again at any time.
# A fresh machine needs Python 3.11 or newer (with venv), make and git; nothing here but `servers` touches the system.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$candidate >/dev/null 2>&1 \
	&& $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$candidate; done; true))
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
CONSTRAINTS := requirements/constraints.txt
SERVERS := docker-registry skopeo slapd chromium
DISTRIBUTION3 := github.com/distribution/distribution/v3/cmd/registry@v3.1.1

# Tests wait for servers half of their time: two processes more than there are cores.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores + 2 : 6)))
# What pytest is given: `make test TESTS=tests/core` or `make test PYTEST_FLAGS="-n0 -x"`.
TESTS ?=
PYTEST_FLAGS ?= -n $(WORKERS) --dist worksteal
# What `make gitlab-tests` runs, and with which kinds of GitLab's registry.
GITLAB_MODES ?= database files plain
GITLAB_TESTS := $(addprefix tests/e2e/test_,$(addsuffix .py,live_inventory beside_the_service skopeo ground_truth \
	token_registry servers cleanup_live cleanup_commands cleanup_races cleanup_collection undo api_cleanup))
# The registry that `make demo` reads; empty is the bundled sample registry.
REGISTRY ?=
# One inventory for each registry, so that they do not mix; the sample's begins anew each time.
DEMO_FILE = $(if $(REGISTRY),$(subst :,_,$(subst /,_,$(patsubst %/,%,$(lastword $(subst ://, ,$(REGISTRY)))))),sample)

export UV_NO_PROGRESS := 1

# ------------------------------------------------------------------------------------------------ set-up

$(UV):
	@test -n "$(PYTHON)" || { \
	  echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv), or name one: make PYTHON=..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) uv

$(VENV)/.runtime: $(UV) pyproject.toml $(CONSTRAINTS)
	$(UV) pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(UV) pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS) --group dev --editable .
	touch $@

# ------------------------------------------------------------------------------------------------ targets

.PHONY: demo
demo: $(VENV)/.runtime ## set up, crawl the bundled sample registry and report (REGISTRY=https://… reads yours)
	mkdir -p .demo
	$(BIN)/regwarden demo --database 'sqlite:///.demo/$(DEMO_FILE).sqlite3' $(if $(REGISTRY),'$(REGISTRY)')

.PHONY: test
test: $(VENV)/.dev ## set up and run all tests; those that need a missing server are skipped, visibly
	$(BIN)/pytest $(PYTEST_FLAGS) $(TESTS)

.PHONY: gitlab-tests
gitlab-tests: $(VENV)/.dev ## all tests of inventory, events and cleanup behind a GitLab, in each of its modes
	for mode in $(GITLAB_MODES); do \
	  echo "== REGWARDEN_TEST_GITLAB=$$mode"; \
	  REGWARDEN_TEST_GITLAB=$$mode $(BIN)/pytest $(PYTEST_FLAGS) -rs $(or $(TESTS),$(GITLAB_TESTS)); \
	done

.PHONY: servers
servers: ## install the servers that tests use (root, Debian), none left running; with Go, Distribution 3.x too
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory distribution3 || echo "Distribution 3.x: not built"; fi
	@missing=(); for package in $(SERVERS); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing+=($$package); done; \
	if [ $${#missing[@]} -eq 0 ]; then echo "Installed already: $(SERVERS)"; exit 0; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update --quiet; \
	apt-get install --quiet --yes --no-install-recommends "$${missing[@]}"; \
	for package in "$${missing[@]}"; do case $$package in docker-registry|slapd) \
	  if [ -d /run/systemd/system ]; then systemctl disable --now $$package; \
	  elif [ -x /etc/init.d/$$package ]; then /etc/init.d/$$package stop || true; fi;; esac; done

.PHONY: distribution3
distribution3: .tools/bin/registry ## build Distribution 3.x for its tests (needs Go)

.tools/bin/registry:
	mkdir -p .tools/bin
	GOBIN=$(CURDIR)/.tools/bin go install $(DISTRIBUTION3)

.PHONY: check
check: lint ## what to run before a commit: format, lint, spelling, types, layers, then all tests
	$(MAKE) test

.PHONY: lint
lint: $(VENV)/.dev ## format, lint, spelling, types, layers and architecture tests, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/architecture

.PHONY: format
format: $(VENV)/.dev ## rewrite the code in the project's format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: dist
dist: $(VENV)/.dev ## build the source distribution and the wheel into dist/
	rm -rf dist
	$(UV) build --quiet --python $(BIN)/python --build-constraints $(CONSTRAINTS) --out-dir dist .
	ls -l dist

.PHONY: bench
bench: $(VENV)/.dev ## run every benchmark; each prints our figure, a baseline's and the ratio
	for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script; done

.PHONY: constraints
constraints: $(VENV)/.dev ## choose the newest versions that fit pyproject.toml and write them down
	$(UV) pip compile --quiet --universal --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 --all-extras --group dev --output-file $(CONSTRAINTS) pyproject.toml

.PHONY: clean
clean: ## remove what was built and cached; the environment and the tools stay
	rm -rf dist build .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/' \
	  | while IFS=$$'\t' read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done
