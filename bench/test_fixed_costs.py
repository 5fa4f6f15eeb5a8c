"""What a call costs beside its kernel, and results in fresh memory against memory that is given: within one run.

`pytest bench/test_fixed_costs.py -s` prints the figures beside their limits, in 2 minutes. One thread; the processor's
time of the calling thread, which other processes disturb less than they do the clock.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up
from gradkernels.engines.recorded import executors, recordings
from gradkernels.engines.recorded.executors import by_python
from gradkernels.memory import RESULTS
from gradkernels.tree import count, each

SECONDS = 4.0
LOSS = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with gk.audit("off"):
        yield
    torch.set_num_threads(before)


def processor_time(call, iterations):
    start = time.thread_time()
    for _ in range(iterations):
        call()
    return (time.thread_time() - start) / iterations


def interleaved(**calls):
    """Seconds of each call, one for each slice, measured in turns."""
    timed = [TimedCall(name, call, clock=processor_time) for name, call in calls.items()]
    for one in timed:
        warm_up(one, 0.5)
    time_interleaved(timed, SECONDS, lambda: None, np.random.default_rng(0))
    return {one.name: np.array(one.slices) for one in timed}


def beyond(slices, other, base):
    """What one call takes beyond another one, in the tenth of their slices that is disturbed least."""
    return float(np.quantile(slices[other], 0.1) - np.quantile(slices[base], 0.1))


def deep(layers, width=16):
    return nn.Sequential(*[one for _ in range(layers) for one in (nn.Linear(width, width), nn.Tanh())])


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


@pytest.mark.parametrize("quantity", ["gradient", "per_sample"])
def test_a_new_number_of_samples_costs_a_regression_at_most_50_us(quantity):
    problem = gk.LinearRegression()
    theta, x, y = problem.draw(1400, seed=0)
    extra = first_of_each_n(lambda n: getattr(gk, quantity)(problem, theta, x[:n], y[:n]), range(1000, 1400))
    print(f"\n{quantity} of a linear regression at a new n: {extra * 1e6:+.0f} us (limit 50)")
    assert extra < 50e-6


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("quantity", ["per_sample", "clipped_sum"])
def test_a_new_number_of_samples_costs_a_module_at_most_a_millisecond(model, quantity):
    problem = getattr(zoo, model)()
    x, y = sized(problem.example, 128)

    def call(n):
        getattr(gk, quantity)(problem, None, x[:n], y[:n], kernel="torch.hooks")

    call(128)  # so that there is memory for all that follow
    extra = first_of_each_n(call, range(127, 64, -1))
    print(f"\n{quantity} of {model} at a new n: {extra * 1e6:+.0f} us (limit 1000)")
    assert extra < 1e-3


def first_of_each_n(call, sizes):
    """Lower quartile over sizes of what the first call takes beyond the third."""
    extra = []
    for n in sizes:
        first, _, third = (processor_time(lambda n=n: call(n), 1) for _ in range(3))
        extra.append(first - third)
    return float(np.quantile(extra, 0.25))


def sized(example, n):
    index = torch.arange(n) % count(example[1])
    return tuple(each(lambda one: one[index], part) for part in example)


@pytest.mark.parametrize("layers", [1, 7, 50])
def test_dispatch_of_a_module_costs_at_most_20_us_beside_kernel_and_key(layers):
    problem, x, y = gk.ModuleProblem(deep(layers), LOSS), torch.randn(8, 16), torch.arange(8)
    hooks, known = gk.kernel("torch.hooks.norms"), []

    def build(problem):
        compute = hooks.build(problem)
        return lambda *given, **options: known[0] if known else compute(*given, **options)

    kernel = replace(hooks, name="known", builder=build, options=(), out=False)
    for _ in range(3):
        result = gk.norms(problem, None, x, y, kernel=kernel)
    known.append(result)
    bound = gk.fastest(problem, "norms", like=(None, x, y), kernel=kernel)
    slices = interleaved(
        key=problem.mode_key,
        bound=lambda: bound(None, x, y),
        function=lambda: gk.norms(problem, None, x, y, kernel=kernel),
    )
    figures = {name: beyond(slices, name, "key") * 1e6 for name in ("bound", "function")}
    print(f"\ndispatch of {2 * layers} parameters, a kernel that does nothing, beyond the key "
          f"({np.median(slices['key']) * 1e6:.0f} us): bound {figures['bound']:.1f} us, "
          f"gk.norms {figures['function']:.1f} us (limit 20)")  # fmt: skip
    assert figures["function"] < 20


def test_a_bound_gradient_of_40_samples():
    problem = gk.LinearRegression()
    inputs = problem.draw(40, seed=0)
    bound = gk.fastest(problem, "gradient", like=inputs)
    slices = interleaved(bound=lambda: bound(*inputs), nothing=lambda: None)
    took = beyond(slices, "bound", "nothing")
    print(f"\n{bound.kernel.key} bound, 40 x 1: {took * 1e6:.2f} us (wanted 0.9)")


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


@pytest.mark.parametrize("quantity", ["gradient", "norms"])
@pytest.mark.parametrize("model", ["mlp", "lstm", "transformer"])
def test_torch_script_runs_a_recording_faster_than_python(model, quantity, monkeypatch):
    problem = zoo.ZOO[model]()
    x, y = (one[:8] for one in problem.example)
    calls = {}
    for name, executor in (("interpreter", executors.executor_of), ("python", lambda graph, _: by_python(graph))):
        monkeypatch.setattr(recordings, "executor_of", executor)
        compute = gk.kernel(f"torch.recorded.{quantity}").build(problem)
        compute(problem.parameters(), x, y)
        calls[name] = partial(compute, problem.parameters(), x, y)
    slices = interleaved(**calls)
    ratio = float(np.quantile(slices["interpreter"], 0.1) / np.quantile(slices["python"], 0.1))
    print(f"\n{model}, n = 8, {quantity}: a recording takes TorchScript's interpreter {ratio:.2f} of its own Python")
    assert ratio < 1
