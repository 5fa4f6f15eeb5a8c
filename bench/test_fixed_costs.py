"""What a call costs beside its kernel, within one run.

`pytest bench/test_fixed_costs.py -s` prints the figures beside their limits, in a minute. One thread; the processor's
time of the calling thread, which other processes disturb less than they do the clock.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from call_costs import alone, beyond, deep, interleaved, processor_time, sized
from torch import nn

import gradkernels as gk
from gradkernels import zoo
from gradkernels.engines.recorded import executors, recordings
from gradkernels.engines.recorded.executors import by_python

LOSS = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True)
def one_thread():
    with alone():
        yield


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
    takes, gives = compiled_least()
    slices = interleaved(
        bound=lambda: bound(*inputs), takes=lambda: takes(*inputs), gives=lambda: gives(*inputs), nothing=lambda: None
    )
    took = {name: beyond(slices, name, "nothing") * 1e6 for name in ("bound", "takes", "gives")}
    print(f"\n{bound.kernel.key} bound, 40 x 1: {took['bound']:.2f} us (wanted 0.9); functions of numba: "
          f"one that only takes the three arrays {took['takes']:.2f} us, "
          f"one that gives the gradient in a new array {took['gives']:.2f} us")  # fmt: skip


def compiled_least():
    """The least that numba can do for a gradient: take its arrays, and compute it into an array that it makes."""
    import numba

    @numba.njit("void(f8[::1], f8[::1], f8[::1])")
    def takes(theta, x, y):
        pass

    @numba.njit("f8[::1](f8[::1], f8[::1], f8[::1])")
    def gives(theta, x, y):
        total = np.zeros(2)
        for i in range(len(x)):
            residual = x[i] * theta[0] + theta[1] - y[i]
            total[0] += residual * x[i]
            total[1] += residual
        return total

    return takes, gives


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
