# Needs Python 3.11 or newer with its venv module, and make. Everything else is set up in .venv.
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -P
STAMP := $(VENV)/.installed

.PHONY: help setup demo check test bench quality readme clean

help:  ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## Make .venv and install everything under constraints.txt

# Run again only when what is installed could change.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: Python 3.11 or newer is needed; say which one with make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[finetune,dev]'
	@touch $@

demo: $(STAMP)  ## A completion and an explanation from a real server process
	@$(RUN) tests/e2e/demo.py

check: $(STAMP)  ## Lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(RUN) -m pytest -q -m 'not slow and not e2e'

test: check  ## Everything: check, then the shipped model and the end-to-end tests
	$(RUN) -m pytest -q -m 'slow or e2e'

bench: $(STAMP)  ## Speed on this machine (nothing else should run)
	$(RUN) -m tests.bench process replay index engines

quality: $(STAMP)  ## How good lines and explanations are, in held-out files of whole repositories
	$(RUN) -m tests.bench quality

readme: $(STAMP)  ## Write the settings table into README.md
	@{ sed '/<!-- settings: begin -->/q' README.md; $(RUN) -m server.settings; \
	  sed -n '/<!-- settings: end -->/,$$p' README.md; } > README.md.new
	@mv README.md.new README.md

clean:  ## Remove .venv and the caches of the tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find server finetune tests -name __pycache__ -type d -prune -exec rm -rf {} +
