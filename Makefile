# A convenience; README.md has the same commands without make. Each target sets itself up in .venv.
# `make TORCH=cpu report` installs PyTorch's smaller build without CUDA (Linux). An existing .venv
# keeps its build: `make clean` first to change it.
PYTHON ?= python3
TORCH ?=
INDEX := $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)
$(if $(filter-out cpu,$(TORCH)),$(error TORCH can be cpu or left out, got $(TORCH)))
BIN := .venv/bin
export KDNB_DATA := $(abspath $(or $(KDNB_DATA),data))

# One worker for each core, of one thread.
PYTEST := $(BIN)/python -m pytest -n logical

.PHONY: report check test lint lab bench doctor clean

report: .venv/installed
	$(BIN)/python -m kdnb report --task mnist-small polyps

# While one works: lint, the examples in docstrings and the fast tests.
check: lint
	$(PYTEST) -m "not slow"

test: lint
	$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: .venv/installed
	KDNB_START=$(CURDIR) $(BIN)/jupyter lab notebooks

bench: .venv/installed
	$(BIN)/python tests/bench/rivals.py
	$(BIN)/python tests/bench/vectorized.py
	$(BIN)/python tests/bench/scaling.py
	$(BIN)/python tests/bench/grid.py
	$(BIN)/python tests/bench/checkpoint.py
	$(BIN)/python tests/bench/scale_out.py
	$(BIN)/python tests/bench/transfer.py
	$(BIN)/python tests/bench/saliency.py
	$(BIN)/python tests/bench/slider.py
	$(BIN)/python tests/bench/playground.py
	$(BIN)/python tests/bench/export.py

doctor: .venv/installed
	$(BIN)/python -m kdnb doctor

# What make itself made. Runs, pages and editions may hold a reader's guesses and answers.
clean:
	if [ -e .venv/installed ]; then rm -rf .venv; fi
	rm -rf kdnb.egg-info .pytest_cache .ruff_cache
	@echo "data/runs, report/ and editions/ stay as they are: delete there what you do not need"

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "kdnb needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(INDEX) --constraint requirements.lock --editable '.[test]'
	@touch $@
