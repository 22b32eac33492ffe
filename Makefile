# The two commands: `make report` and `make test`. Each sets itself up in .venv first.
PYTHON ?= python3
BIN := .venv/bin
export KDNB_DATA := $(abspath $(or $(KDNB_DATA),data))

.PHONY: report test lab bench doctor clean

report: .venv/installed
	$(BIN)/python -m kdnb report --task digits polyps

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

lab: .venv/installed
	KDNB_START=$(CURDIR) $(BIN)/jupyter lab notebooks

bench: .venv/installed
	$(BIN)/python tests/bench/rivals.py
	$(BIN)/python tests/bench/together.py
	$(BIN)/python tests/bench/scaling.py
	$(BIN)/python tests/bench/grid.py
	$(BIN)/python tests/bench/checkpoint.py
	$(BIN)/python tests/bench/scale_out.py
	$(BIN)/python tests/bench/transfer.py
	$(BIN)/python tests/bench/saliency.py
	$(BIN)/python tests/bench/slider.py
	$(BIN)/python tests/bench/export.py

doctor: .venv/installed
	$(BIN)/python -m kdnb doctor

# Everything that was made here; data that was downloaded stays.
clean:
	rm -rf .venv data/runs editions report/*.html report/*.json
	rm -rf report/digits*/ report/mnist*/ report/polyps*/ report/mhist*/
	rm -rf kdnb.egg-info build .pytest_cache .ruff_cache

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "kdnb needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@
