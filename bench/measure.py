"""Measure what docs/how-fast.md shows, by `gradkernels run`, into results/modules-*.csv or results/memory-*.csv.

    python bench/measure.py modules     # six models on one thread and two, 12 runs, about an hour
    python bench/measure.py memory      # regressions at the speed of memory, about 12 minutes, 6 GB
    python bench/measure.py modules mlp-1 cnn-1     # some of the runs

Prints every command before it runs. Nothing else should run meanwhile.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from gradkernels.bench.cli import main

RESULTS = Path(__file__).parents[1] / "results"
PER_SAMPLE = (
    "torch.autograd,torch.hooks.per_sample,torch.compiled*.per_sample,torch.compiled*[chunk=16].per_sample,"
    "torch.vmap.per_sample,opacus.*.per_sample,backpack.*.per_sample"
)
SHORT_CUTS = (
    "torch.hooks.norms,torch.hooks.clipped_sum,torch.compiled_hooks.norms,torch.compiled_hooks.clipped_sum,"
    "torch.reweighted,opacus.ghost"
)
WITH_SHORT_CUTS = ("mlp", "cnn", "transformer")
PEERS = (
    "numba.fused,numpy.matmul,numpy.blocked.gradient,torch.closed.gradient,torch.autograd,jax.grad,sklearn.loss,"
    "numpy.broadcast.per_sample"
)
OURS = "numba.fused"


def modules() -> Iterator[str]:
    """Yield name and options of each run; `mlp-2` is the MLP on two threads."""
    for threads, model in product((1, 2), ("mlp", "cnn", "transformer", "resnet", "lstm", "embedding_bag")):
        common = f"{model}-{threads} --problem gradkernels.zoo:{model} --threads {threads}"
        common += " --sizes 16,64,256,1024 --budget 4min" if threads == 1 else " --sizes 16,64,256 --budget 90s"
        if model in WITH_SHORT_CUTS and threads == 1:
            yield f"{common} --quantity gradient,per_sample,norms,clipped_sum --kernel {PER_SAMPLE},{SHORT_CUTS}"
        else:
            yield f"{common} --kernel {PER_SAMPLE}"


def memory() -> Iterator[str]:
    """Yield name and options of each run; a name that ends in -2 is that of a run on two threads."""
    yield f"small --quantity gradient --sizes 40 --budget 10s --kernel {OURS},numpy.matmul,torch.autograd"
    yield f"1 --quantity per_sample --sizes 10000000 --budget 60s --kernel {OURS},numpy.broadcast"
    yield f"30 --quantity all --features 30 --sizes 1000000 --budget 120s --kernel {PEERS}"
    yield f"64 --features 64 --sizes 400000 --budget 90s --kernel {PEERS}"
    yield f"30-2 --features 30 --sizes 1000000 --threads 2 --budget 40s --kernel {OURS}"
    one = f"--quantity gradient --kernel {OURS}"
    for problem in ("logistic", "poisson", "softmax"):
        wide = f"--problem {problem} --features 30 --sizes 1000000 --budget 20s"
        yield f"{problem} {one} {wide}"
        yield f"{problem}-2 {one} {wide} --threads 2"
    yield f"10 {one} --features 10 --sizes 100000 --budget 10s"
    yield f"10-2 {one} --features 10 --sizes 100000 --budget 10s --threads 2"
    ten = "--problem 'softmax(classes=10)' --features 30 --sizes 1000000 --budget 40s"
    yield f"softmax10 {one},sklearn.loss {ten}"


if __name__ == "__main__":
    what, *only = sys.argv[1:]
    for line in {"modules": modules, "memory": memory}[what]():
        name, *options = shlex.split(line)
        if only and name not in only:
            continue
        out = str(RESULTS / f"{what}-{name}.csv")
        command = ["run", *options, "--passes", "3", "--force", "--plot", str(RESULTS / "latest.png"), "--out", out]
        print("$ gradkernels", shlex.join(command), flush=True)
        if code := main(command):
            sys.exit(code)
