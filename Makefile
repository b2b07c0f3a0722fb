PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types check wheel reproduce bench clean

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
	$(BIN)/pytest

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

bench: .venv/installed
	$(BIN)/python -m pytest tests/benchmarks -m "" -s

clean:
	rm -rf .venv build dist
