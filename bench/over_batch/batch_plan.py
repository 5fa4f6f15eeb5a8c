"""What `python bench/over_batch` does one after another: jobs, and the share of the time that each may take."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from batch_orders import JAX

ORDER = (16, 128, 8, 32, 256, 1024)
"""Sizes in the order in which they are measured, so that little time gives some of each kind."""

WEIGHTS = {"time": 1.0, "memory": 0.3, "jax": 0.5}
MORE_THREADS = 0.7
"""Shares of the time: of a job by what it measures, and of one on several threads."""

JAX_SUFFIX = " jax"


@dataclass(frozen=True)
class Job:
    """One model, one number of threads and what is measured of them."""

    model: str
    threads: int
    what: str

    @property
    def label(self):
        """How rows call the model; JAX's kernels are timed beside a batch of their own."""
        return self.model + JAX_SUFFIX * (self.what == "jax")

    @property
    def weight(self):
        """Its part of the time, relative to others."""
        return WEIGHTS[self.what] * (MORE_THREADS if self.threads > 1 else 1.0)


def jobs(models, threads, memory=True, jax=True):
    """Yield models on the first number of threads before the next, memory before time, then JAX.

    Args:
        models: Names.
        threads: Numbers of threads.
        memory: Whether processes of their own measure memory, on the first number of threads.
        jax: Whether JAX's kernels are timed too.
    """
    for count in threads:
        for model in models:
            if memory and count == threads[0]:
                yield Job(model, count, "memory")
            yield Job(model, count, "time")
    if jax:
        yield from (Job(model, count, "jax") for count, model in product(threads, JAX) if model in models)


def cells(sizes, quantities):
    """Sizes and quantities in the order in which they are measured."""
    known = [n for n in ORDER if n in sizes] + sorted(set(sizes) - set(ORDER))
    return tuple(product(known, quantities))
