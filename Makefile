# `make up` runs the whole loop on this machine; `make test` proves it. Nothing else needs to be installed first.

PYTHON ?= python3
VENV := .venv
LABEL_STUDIO_VENV := .venv-label-studio
BIN := $(VENV)/bin
# PyTorch's index of CPU builds, used where it can be reached; `make TORCH_INDEX= …` takes PyPI's build (CUDA on Linux).
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := -m pip install -qq --disable-pip-version-check

# Both environments at once.
MAKEFLAGS += --jobs=2

.DEFAULT_GOAL := help
.PHONY: help install up down status ui test check lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed $(LABEL_STUDIO_VENV)/.installed  ## make both environments (about 3 minutes, 4 GB)

up: install  ## start everything with the demo project; Ctrl-C stops it
	@$(BIN)/nerloop up

down:  ## stop what `make up` started elsewhere
	@$(BIN)/nerloop down

status:  ## show where the loop stands
	@$(BIN)/nerloop status

ui: install  ## MLflow's page on runs, versions and promotions
	@$(BIN)/nerloop ui

test: install $(VENV)/.installed-dev  ## run all tests, fast ones first
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/unit tests/integration
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/e2e
	@$(BIN)/python -m pytest --numprocesses 2 tests/faults

check: lint  ## lint, and the unit tests
	@$(BIN)/python -m pytest --quiet tests/unit

lint: $(VENV)/.installed $(VENV)/.installed-dev  ## format, lint, types, import rules, compose file
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/mypy benchmarks docs/make_images.py
	@$(BIN)/lint-imports
	@if [ -f docker-compose.yml ]; then $(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml; fi

clean:  ## remove both environments and all local data (asks first)
	@printf 'Remove the environments and .nerloop with all its labels and models? [y/N] '; read answer; [ "$$answer" = y ]
	@if [ -x $(BIN)/nerloop ]; then $(BIN)/nerloop down; fi
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) .nerloop

$(VENV)/.installed: requirements.txt requirements-label-studio-ml.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@echo "Installing the loop into $(VENV) (PyTorch, MLflow, …): about 2 minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) --upgrade pip
	@$(BIN)/python -c 'import urllib.request as u; u.urlopen("$(TORCH_INDEX)/torch/", timeout=5)' 2>/dev/null \
		&& $(BIN)/python $(PIP) --index-url $(TORCH_INDEX) "$$(grep '^torch==' requirements.txt)" \
		|| $(BIN)/python $(PIP) "$$(grep '^torch==' requirements.txt)"
	@$(BIN)/python $(PIP) -r requirements.txt
	@$(BIN)/python $(PIP) --no-deps -r requirements-label-studio-ml.txt
	@$(BIN)/python $(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(BIN)/python $(PIP) -r requirements-dev.txt
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(BIN)/playwright install chromium
	@touch $@

$(LABEL_STUDIO_VENV)/.installed: requirements-label-studio.txt
	@echo "Installing Label Studio into $(LABEL_STUDIO_VENV): about 1 minute"
	@test -x $(LABEL_STUDIO_VENV)/bin/python || $(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	@$(LABEL_STUDIO_VENV)/bin/python $(PIP) -r requirements-label-studio.txt
	@touch $@
