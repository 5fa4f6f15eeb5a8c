# Two commands do everything on a fresh machine with Python 3.11+, pip and make: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# The environment is made anew when what it is made from changes.
STAMP := .venv/installed

.PHONY: run test test-all bench lint types clean

run: $(STAMP)
	$(BIN)/gradkernels run

test: $(STAMP)
	$(BIN)/pytest

test-all: $(STAMP)
	$(BIN)/pytest --long

bench: $(STAMP)
	$(BIN)/pytest bench

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
