PYTHON ?= python3
BIN := .venv/bin

.PHONY: install test lint
install: .venv/installed  ## make .venv with everything

# torch comes first, pinned: a plain `pip install torch` may bring gigabytes for GPUs that this machine lacks.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q "torch==2.13.0"
	$(BIN)/python -m pip install -q -e ".[torch,demo,test,dev]"
	touch $@

test: install  ## the whole suite
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest src tests README.md

lint: install  ## format, lint and types
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
