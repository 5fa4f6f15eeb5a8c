# Two commands do everything on a fresh machine with Python 3.11+, pip and make: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# The environment is made anew when what it is made from changes.
STAMP := .venv/installed
# `make run` needs a small part of it. No bytecode is made of what is never imported: four files of five, and minutes.
RUN_STAMP := .venv/installed-to-run
# Tests that assert something of times that they measure: nothing runs beside them.
TIMING := tests/timed
# Commands of the pages, doors to other libraries, several processes and real models: CI waits for these, a person need not.
OUTSIDE := tests/docs tests/doors tests/processes tests/real
# One more than there are processors: some tests wait, for a process that hangs or for its time to be over.
WORKERS = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')
BESIDE = $(BIN)/pytest -q --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10
# Every process that a test starts imports what an earlier one compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-outside test-all bench docs house mutants wisdom modules memory over_batch quantities lint types clean

# Who wins where, within three minutes from nothing. All kernels at full length: .venv/bin/gradkernels run
run: $(RUN_STAMP)
	$(BIN)/gradkernels run --race --budget 90s

test: $(STAMP)
	$(BESIDE) $(TIMING:%=--ignore=%) $(OUTSIDE:%=--ignore=%) $(LONG) tests
	$(BIN)/pytest -q --durations 10 $(TIMING) $(LONG)

test-outside: $(STAMP)
	$(BESIDE) $(LONG) $(OUTSIDE)

test-all:
	$(MAKE) test test-outside LONG=--long

# Small faults put into the code, one at a time, that some test has to see; hours for all of them, and it goes on where it
# was stopped. Some: make mutants MUTANTS='gradkernels.bench.stats.*'
mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mutation]'
	$(BIN)/mutmut run $(MUTANTS)
	$(BIN)/python tests/survivors.py

bench: $(STAMP)
	$(BIN)/pytest bench

# The table that ships with the package: about 12 minutes, on a machine that does nothing else.
wisdom: $(STAMP)
	for d in 1 10; do $(BIN)/gradkernels run --quantity all --features $$d --passes 3 --budget 60s --force --out results/shipped-$$d.csv; done
	$(BIN)/gradkernels run --quantity all --features 100 --sizes 10:1e5 --passes 3 --budget 60s --force --out results/shipped-100.csv
	for p in logistic poisson huber softmax; do $(BIN)/gradkernels run --problem $$p --quantity all --features 10 --passes 3 --budget 45s --force --out results/shipped-$$p.csv; done
	rm -f gradkernels/wisdom.json  # of kernels that are no more
	GRADKERNELS_WISDOM=gradkernels/wisdom.json $(BIN)/gradkernels fastest results/shipped-*.csv --save
	rm -f gradkernels/.wisdom.json.lock

# What docs/how-fast.md shows of six models, about an hour, and of the speed of memory, 12 minutes; likewise quiet.
modules memory: $(STAMP)
	$(BIN)/python bench/measure.py $@
	$(BIN)/python bench/headline.py $@

# What per-sample gradients cost over a plain batch, on 13 models, beside other libraries: about 25 minutes, quiet. Goes on.
over_batch: $(STAMP)
	$(BIN)/python bench/over_batch

# What each quantity costs over a plain pass, beside the libraries that a user would pick: about 25 minutes, quiet. Goes on.
quantities: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[quantities]'
	$(BIN)/python bench/quantities
	$(BIN)/python tests/pages.py docs/how-fast.md

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

# The site: open build/site/index.html. A warning is an error, and so is a link that leads nowhere.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet -c docs -d build/doctrees . build/site

# What a newcomer meets, in numbers: rooms, layers, functions, names, docstrings. Behind each: python tests/house.py --list
house: $(STAMP)
	$(BIN)/python tests/house.py

clean:
	rm -rf .venv .jax_cache build dist *.egg-info

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@ $(RUN_STAMP)

$(RUN_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[fast,jax,bench]'
	touch $@
