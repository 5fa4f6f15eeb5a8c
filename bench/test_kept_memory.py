"""Results in kept memory, in fresh memory and in memory that is given, beside each other within one run.

`pytest bench/test_kept_memory.py -s` prints the figures beside their limits, in a minute, as test_fixed_costs.py does.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from call_costs import alone, beyond, deep, interleaved, sized
from torch import nn

import gradkernels as gk
from gradkernels import zoo
from gradkernels.memory import RESULTS

LOSS = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True)
def one_thread():
    with alone():
        yield


@pytest.mark.parametrize("layers", [7, 50])
def test_memory_that_is_given_costs_a_module_at_most_20_us(layers):
    problem, x, y = gk.ModuleProblem(deep(layers), LOSS), torch.randn(8, 16), torch.arange(8)
    own = problem.parameters()
    whole = torch.empty(8, sum(one.numel() for one in own.values()))
    parts = whole.split([one.numel() for one in own.values()], 1)
    given = {
        "apart": {name: torch.empty(8, *one.shape) for name, one in own.items()},
        "columns": {name: part.unflatten(1, one.shape) for (name, one), part in zip(own.items(), parts, strict=True)},
    }

    def call(out=None):
        return lambda: gk.per_sample(problem, None, x, y, kernel="torch.hooks", out=out)

    slices = interleaved(fresh=call(), **{name: call(out) for name, out in given.items()})
    figures = {name: beyond(slices, name, "fresh") * 1e6 for name in given}
    print(f"\nout= of {len(own)} parameters, n = 8, beyond no out= ({np.median(slices['fresh']) * 1e3:.2f} ms): "
          + ", ".join(f"{name} {figure:+.0f} us (limit 20)" for name, figure in figures.items()))  # fmt: skip
    assert figures["apart"] < 20


@pytest.mark.parametrize(("model", "n"), [("mlp", 256), ("mlp", 1024), ("embedding_bag", 256)])
def test_results_in_kept_memory_take_no_longer_than_into_memory_that_is_given(model, n):
    problem = getattr(zoo, model)()
    x, y = sized(problem.example, n)
    own = problem.parameters()
    bound = gk.fastest(problem, "per_sample", like=(None, x, y), kernel="torch.hooks", audit=False)
    out = {name: torch.empty((n, *one.shape)) for name, one in own.items()}

    def batch():
        return torch.autograd.grad(problem.sample_losses(own, x, y).mean(), list(own.values()))

    def write():
        for one in out.values():
            one.fill_(1.0)

    def fresh():
        RESULTS.release()
        return bound(None, x, y)

    slices = interleaved(
        batch=batch, write=write, fresh=fresh, kept=lambda: bound(None, x, y), out=lambda: bound(None, x, y, out=out)
    )
    limit = np.median(slices["batch"]) + np.median(slices["write"])
    shares = {name: np.median(slices[name]) / limit for name in ("fresh", "kept", "out")}
    print(f"\nrows of {model}, n = {n}, over a plain batch and writing ({limit * 1e3:.2f} ms): "
          f"fresh memory {shares['fresh']:.2f}, kept {shares['kept']:.2f}, out= {shares['out']:.2f}")  # fmt: skip
    assert shares["kept"] < 1.1 * shares["out"]


@pytest.mark.parametrize("n", [1000, 100_000, 3_000_000])
def test_rows_of_a_regression_in_kept_memory_take_no_longer_than_into_memory_that_is_given(n):
    problem = gk.LinearRegression()
    inputs = problem.draw(n, seed=0)
    bound = gk.fastest(problem, "per_sample", like=inputs, kernel="numba.fused", threads=1)
    out = np.empty((n, 2))

    def fresh():
        RESULTS.release()
        return bound(*inputs)

    slices = interleaved(fresh=fresh, kept=lambda: bound(*inputs), out=lambda: bound(*inputs, out=out))
    took = {name: np.quantile(slices[name], 0.1) * 1e6 for name in slices}
    print(f"\nrows of a linear regression, n = {n:,}: "
          + ", ".join(f"{name} {figure:.2f} us" for name, figure in took.items()))  # fmt: skip
    assert took["kept"] < 1.1 * took["out"] + 1
