PYTHON ?= python3
BIN := .venv/bin
# A worker loads everything once; small networks are faster on one thread than on two.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-all test-gpu test-oldest lint types check wheel reproduce bench bench-gpu docs clean

# The stamp makes setup happen once, and again when the requirements change.
.venv/installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/trellis demo

test: .venv/installed
	$(PYTEST)

# What takes minutes and seldom breaks alone.
test-all: test
	$(PYTEST) -m long

# Every objective on one GPU: in each precision, compiled, resumed, sharded.
test-gpu: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -m long -n 4 --dist worksteal tests/lightning_modules/test_on_gpu.py

# The suite with the lowest releases that setup.py admits: so its ranges are true.
test-oldest: .venv-oldest/installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/pytest -n $(WORKERS) --dist worksteal

.venv-oldest/installed: setup.py
	$(PYTHON) -m venv .venv-oldest
	grep -oE '[a-z0-9-]+(\[[a-z]+\])?>=[0-9.]+' setup.py | sed 's/\[.*\]//; s/>=/==/' > .venv-oldest/oldest.txt
	.venv-oldest/bin/pip install --quiet -c .venv-oldest/oldest.txt torch
	.venv-oldest/bin/pip install --quiet -c .venv-oldest/oldest.txt -e ".[dev]"
	touch $@

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Links in src/trellis show type checkers and editors the two rooms that lie beside it.
types: .venv/installed
	MYPYPATH=src $(BIN)/mypy -p trellis

check: lint types test

wheel: .venv/installed
	$(BIN)/python -m build --wheel

reproduce: .venv/installed
	$(BIN)/trellis reproduce --all

# Each benchmark beside its peers, in one run; BENCHMARKS.md says what was measured.
bench: .venv/peers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks -m "" -s --durations=20 --benchmarks-to BENCHMARKS.md

# On one GPU; without any it runs tiny, says so, and measures nothing.
bench-gpu: .venv/installed
	$(BIN)/python tests/benchmarks/gpu.py --write BENCHMARKS.md

.venv/peers: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[peers,dev]"
	touch $@

# The site: python -m http.server -d docs/_build shows it. A warning is an error.
docs: .venv/docs
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -d docs/_build/.doctrees docs docs/_build

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs,dev]"
	touch $@

clean:
	rm -rf .venv .venv-oldest build dist docs/_build docs/api docs/families docs/results.rst docs/ladder.rst
