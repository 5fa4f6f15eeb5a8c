# Two commands do everything on a fresh machine with Python 3.11+, pip and make: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# The environment is made anew when what it is made from changes.
STAMP := .venv/installed
# Tests whose outcome depends on times that they measure: nothing runs beside them.
TIMING := tests/test_ab.py tests/test_doctor.py tests/test_race.py
# Every process that a test starts imports what an earlier one compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-all bench house wisdom modules memory lint types clean

run: $(STAMP)
	$(BIN)/gradkernels run

test: $(STAMP)
	$(BIN)/pytest -q --numprocesses auto --dist worksteal --durations 10 $(TIMING:%=--ignore=%) $(LONG)
	$(BIN)/pytest -q --durations 10 $(TIMING) $(LONG)

test-all:
	$(MAKE) test LONG=--long

bench: $(STAMP)
	$(BIN)/pytest bench

# The table that ships with the package: about 12 minutes, on a machine that does nothing else.
wisdom: $(STAMP)
	for d in 1 10; do $(BIN)/gradkernels run --quantity all --features $$d --passes 3 --budget 60s --force --out results/shipped-$$d.csv; done
	$(BIN)/gradkernels run --quantity all --features 100 --sizes 10:1e5 --passes 3 --budget 60s --force --out results/shipped-100.csv
	for p in logistic poisson huber softmax; do $(BIN)/gradkernels run --problem $$p --quantity all --features 10 --passes 3 --budget 45s --force --out results/shipped-$$p.csv; done
	GRADKERNELS_WISDOM=gradkernels/wisdom.json $(BIN)/gradkernels fastest results/shipped-*.csv --save

# What docs/how-fast.md shows of six models, about an hour, and of the speed of memory, about half of one; likewise quiet.
RUN := $(BIN)/gradkernels run --passes 3 --force --plot results/latest.png
PER_SAMPLE := torch.hooks.per_sample,torch.compiled*.per_sample,torch.compiled*[chunk=16].per_sample,torch.vmap.per_sample,opacus.*.per_sample,backpack.*.per_sample
SHORT_CUTS := torch.hooks.*,torch.compiled_hooks.norms,torch.compiled_hooks.clipped_sum,torch.reweighted,opacus.ghost

modules: $(STAMP)
	for m in mlp cnn transformer; do $(RUN) --problem gradkernels.zoo:$$m --quantity gradient,per_sample,norms,clipped_sum --kernel 'torch.autograd,$(PER_SAMPLE),$(SHORT_CUTS)' --sizes 16,64,256,1024 --budget 150s --out results/modules-$$m-1.csv; done
	for m in resnet lstm embedding_bag; do $(RUN) --problem gradkernels.zoo:$$m --kernel 'torch.autograd,$(PER_SAMPLE)' --sizes 16,64,256,1024 --budget 90s --out results/modules-$$m-1.csv; done
	for m in mlp cnn transformer resnet lstm embedding_bag; do $(RUN) --problem gradkernels.zoo:$$m --threads 2 --kernel 'torch.autograd,$(PER_SAMPLE)' --sizes 16,64,256,1024 --budget 90s --out results/modules-$$m-2.csv; done
	$(BIN)/python bench/headline.py modules

memory: $(STAMP)
	$(RUN) --quantity gradient --sizes 40 --kernel numba.fused,numpy.matmul,torch.autograd --budget 10s --out results/memory-small.csv
	$(RUN) --quantity per_sample --sizes 1e7 --kernel numba.fused,numpy.broadcast --budget 60s --out results/memory-1.csv
	for d in '30 --sizes 1000000 --quantity all' '64 --sizes 400000'; do $(RUN) --features $$d --kernel 'numba.fused,numpy.matmul,numpy.blocked.gradient,torch.closed.gradient,torch.autograd,jax.grad,sklearn.loss,numpy.broadcast.per_sample' --budget 90s --out results/memory-$${d%% *}.csv; done
	for p in logistic poisson softmax; do for t in 1 2; do $(RUN) --problem $$p --quantity gradient --features 30 --sizes 1e6 --threads $$t --kernel numba.fused --budget 20s --out results/memory-$$p$$(test $$t = 1 || echo -2).csv; done; done
	$(RUN) --problem 'softmax(classes=10)' --quantity gradient --features 30 --sizes 1e6 --kernel numba.fused,sklearn.loss --budget 40s --out results/memory-softmax10.csv
	for t in 1 2; do $(RUN) --quantity gradient --features 10 --sizes 1e5 --threads $$t --kernel numba.fused --budget 10s --out results/memory-10$$(test $$t = 1 || echo -2).csv; done
	$(RUN) --features 30 --sizes 1e6 --threads 2 --kernel numba.fused --budget 40s --out results/memory-30-2.csv
	$(BIN)/python bench/headline.py memory

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

# What a newcomer meets, in numbers: rooms, layers, functions, names, docstrings. Behind each: python tests/house.py --list
house: $(STAMP)
	$(BIN)/python tests/house.py

clean:
	rm -rf .venv build dist *.egg-info

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
