# What each target does: make help

PYTHON = python3
BIN = .venv/bin

.SUFFIXES:
.PHONY: help setup repro test lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: .venv/.installed ## create .venv and install the project in it, with pinned versions
	@:

repro: .venv/.installed ## run the pipeline: every stage whose inputs changed
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

test: lint ## run lint, then all tests, on all cores
	@$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed ## check style, types and spelling
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/codespell

format: .venv/.installed ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

# The answers of LLMs (.cache/) and DVC's cache (.dvc/cache/) cost time or money, so they stay.
clean: ## remove .venv and the files that tools left behind
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find bench src stages tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Python 3.11 or newer is needed and $(PYTHON) is not: name one, as in make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into .venv: takes a few minutes, only once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# So that .venv/bin/dvc runs the stages with this Python even if the environment is not active.
	@echo 'import os, sys; os.environ["PATH"] = sys.prefix + "/bin:" + os.environ.get("PATH", os.defpath)' \
	> "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/amalgam_path.pth"
	@touch $@
