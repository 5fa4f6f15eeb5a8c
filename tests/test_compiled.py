"""torch.compiled: right at more shapes than torch keeps versions, compiled once for each, and refused with reasons."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.engines.compiled.per_shape import per_shape

TORCH = BACKENDS["torch"]
CASES = [
    ("gradient", gk.LogisticRegression(l2=0.1, weighted=True), "float64", "F"),
    ("per_sample", gk.SoftmaxRegression(l2=0.1, weighted=True), "float32", "C"),
    ("norms", gk.HuberRegression(fit_intercept=False, l2=0.1), "float64", "C"),
    ("moments", gk.SoftmaxRegression(), "float64", "C"),
    ("clipped_sum", gk.PoissonRegression(weighted=True), "float32", "F"),
]


@pytest.fixture
def compilations(monkeypatch):
    """The functions that were compiled."""
    seen = []
    compile_ = torch.compile
    monkeypatch.setattr(
        "torch.compile", lambda function, **options: seen.append(options) or compile_(function, **options)
    )
    return seen


@pytest.mark.parametrize(("quantity", "problem", "dtype", "layout"), CASES, ids=lambda value: str(value))
def test_agrees_with_the_reference_and_compiles_once(quantity, problem, dtype, layout, compilations):
    case = gk.Case(problem, quantity, 70, dtype, layout=layout, features=3)
    proof = gk.check(f"torch.compiled.{quantity}", case)  # several calls, with several bounds for clipped sums
    assert proof.error <= proof.tolerance
    assert compilations == [{"fullgraph": True, "dynamic": False}]


def test_more_shapes_than_torch_keeps_versions_are_all_right_and_compiled_once(compilations):
    double = per_shape(lambda x: 2 * x)
    with torch._dynamo.config.patch(recompile_limit=2):  # 8 by default
        for _ in range(2):
            for n in range(1, 5):
                assert double(torch.ones(n)).tolist() == [2.0] * n
    assert len(compilations) == 4


def test_the_oldest_shape_makes_room(compilations, monkeypatch):
    monkeypatch.setattr("gradkernels.engines.compiled.per_shape.MOST_COMPILED_SHAPES", 2)
    double = per_shape(lambda x: 2 * x)
    for n in (1, 2, 1, 3, 2, 3, 1):
        assert double(torch.ones(n)).tolist() == [2.0] * n
    assert len(compilations) == 4


def test_one_column_and_no_sample(compilations):
    problem = gk.LinearRegression()
    compute = gk.kernel("torch.compiled.per_sample").build(problem)
    theta = torch.tensor([1.0, 2.0])
    # Residuals 0.5 and -1 at eta 1.5 and 4, so slopes 1 and -2.
    rows = compute(theta, torch.tensor([0.25, 1.5]), torch.tensor([1.0, 5.0]))
    assert rows.tolist() == [[1.0, 0.25], [-2.0, -3.0]]
    assert compute(theta, torch.empty(0), torch.empty(0)).shape == (0, 2)


def test_works_in_every_mode_of_its_caller_and_gives_ordinary_tensors():
    problem = gk.LinearRegression()
    compute = gk.kernel("torch.compiled.norms").build(problem)
    arrays = TORCH.put(problem.draw(5, seed=3))
    plain = compute(*arrays)
    arrays[0].requires_grad_(True)
    assert not compute(*arrays).requires_grad
    with torch.inference_mode():
        fresh = TORCH.put(problem.draw(5, seed=3))
        inside = compute(*fresh)
        own = torch.empty(5, dtype=torch.float64)
        assert compute(*fresh, out=own) is own
    assert not inside.is_inference()
    for result in (inside, own):
        np.testing.assert_array_equal(result, plain)


def test_a_penalty_of_zero_times_infinity_is_not_added():
    problem = gk.HuberRegression()
    rows = gk.kernel("torch.compiled.per_sample").build(problem)(
        torch.tensor([0.0, np.inf]), torch.tensor([1.0, -2.0]), torch.zeros(2)
    )
    assert rows.tolist() == [[1.0, 1.0], [-1.0, 2.0]]


def test_what_a_compiler_needs_is_a_reason(monkeypatch):
    kernel = gk.kernel("torch.compiled.norms")
    case = gk.Case(gk.LinearRegression(), "norms", 5)
    monkeypatch.delenv("CXX", raising=False)
    assert kernel.unsupported(case) == ()
    monkeypatch.setenv("CXX", "no-such-compiler")
    says = "torch.compile needs a C++ compiler and finds no no-such-compiler: install one, or name it in CXX"
    assert kernel.unsupported(case) == (says,)
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    headers = f"torch.compile needs {Path('/nowhere/Python.h')}: install Python's headers (python3-dev)"
    assert kernel.unsupported(case) == (says, headers)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("gradkernels.engines.compiled.available.find_spec", lambda name: None)
    on_gpu = gk.Case(gk.LinearRegression(), "norms", 5, device="cuda")
    assert kernel.unsupported(on_gpu) == ("torch.compile needs triton for a GPU: pip install triton",)
