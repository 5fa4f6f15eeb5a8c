"""What callers say by keyword reaches the kernel, or is done for it: `out=` and `max_norm=`."""

from dataclasses import replace

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.dispatch.keywords import with_keywords, with_options
from gradkernels.quantities.shared.arguments import positive
from gradkernels.quantity import QUANTITIES

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])
INPUTS = (np.zeros(2), np.zeros(2), np.zeros(2))
WRITING = gk.kernel("numpy.broadcast.per_sample")


def spied(given):
    """A kernel that notes the memory and options that it is given."""

    def compute(theta, x, y, **options):
        given.append(options)
        out = options.get("out")
        if out is None:
            return ROWS.copy()
        out[...] = ROWS
        return out

    return compute


@pytest.mark.parametrize(
    ("kernel", "at_once", "reaches"),
    [(WRITING, True, True), (WRITING, False, False), (replace(WRITING, out=False), True, False)],
)
def test_memory_reaches_a_kernel_that_writes_to_it_and_is_filled_for_others(kernel, at_once, reaches):
    given, out = [], np.empty((2, 2))
    call = with_keywords(spied(given), kernel, at_once)
    assert call(*INPUTS, out=out) is out
    assert call(*INPUTS, out) is out
    assert out.tolist() == [[1, 2], [3, 4]]
    assert call(*INPUTS) is not out
    assert [*map(len, given)] == [reaches, reaches, 0]
    with pytest.raises(ValueError, match="out"):
        call(*INPUTS, out=np.empty((2, 3)))


def test_memory_that_a_kernel_cannot_write_to_is_filled_for_it():
    torch = pytest.importorskip("torch")
    given = []
    call = with_keywords(
        lambda *arrays, **options: given.append(options) or torch.ones(2, 2), gk.kernel("torch.vmap.per_sample"), True
    )
    inputs = (torch.zeros(2), torch.zeros(2), torch.zeros(2))
    with torch.inference_mode():
        out = torch.zeros(2, 2)
    assert call(*inputs, out=out) is out
    assert out.tolist() == [[1, 1], [1, 1]]
    assert given == [{}]


@pytest.mark.parametrize("writes", [True, False])
def test_the_kernel_has_the_callers_inputs_whatever_memory_there_is(writes):
    seen = []

    def compute(*inputs, **options):
        seen.append([*map(id, inputs)])
        return ROWS

    call, inputs = with_keywords(compute, replace(WRITING, out=writes), True), [one.copy() for one in INPUTS]
    call(*inputs)
    call(*inputs, out=np.empty((2, 2)))
    assert seen == [[*map(id, inputs)]] * 2


def test_the_clipping_norm_reaches_the_kernel_as_a_float():
    given = []
    call = with_keywords(spied(given), gk.kernel("numpy.blocked.clipped_sum"), True)
    for options in ({}, {"max_norm": np.float32(0.5)}, {"max_norm": 3}):
        call(*INPUTS, **options)
    assert given == [{"max_norm": 1.0}, {"max_norm": 0.5}, {"max_norm": 3.0}]
    assert {type(one["max_norm"]) for one in given} == {float}
    compute = spied(given)
    assert with_keywords(compute, gk.kernel("numpy.matmul.gradient"), True) is compute


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "wide", None])
def test_a_clipping_norm_that_is_not_positive_is_named(value):
    says = rf"^max_norm is {value}; it must be positive \(float\('inf'\) clips nothing\)$"
    with pytest.raises(ValueError, match=says):
        positive(value)
    assert [positive(fine) for fine in (1e-300, 0.5, float("inf"), "2")] == [1e-300, 0.5, float("inf"), 2.0]


def test_options_of_a_regression_are_looked_at_with_its_inputs_and_come_by_name():
    given, inputs = [], (np.zeros(4), np.ones((4, 3)), np.zeros(4))

    def compute(*arrays, **options):
        assert [*map(id, arrays)] == [*map(id, inputs)]
        given.append(options)

    call = with_options(compute, QUANTITIES["weighted_sum"], gk.LinearRegression())
    call(*inputs, np.array([1.0, 2.0, 3.0, 4.0]))
    call(*inputs, weights=np.array([4.0, 3.0, 2.0, 1.0]))
    assert [one["weights"].tolist() for one in given] == [[1, 2, 3, 4], [4, 3, 2, 1]]
    with pytest.raises(ValueError, match="weights"):
        call(*inputs, np.ones(3))
    for name in ("clipped_sum", "gradient"):
        assert with_options(compute, QUANTITIES[name], gk.LinearRegression()) is compute


def test_other_samples_of_a_regression_are_held_against_theta_and_the_problem():
    given, problem = [], gk.LogisticRegression()
    call = with_options(lambda *arrays, **options: given.append(options["other"]), QUANTITIES["gram"], problem)
    inputs = (np.zeros(4), np.ones((4, 3)), np.zeros(4))
    call(*inputs, other=(np.full((2, 3), 5.0), np.array([True, False])))
    ((x, y),) = given
    assert (x.tolist(), y.tolist(), y.dtype) == ([[5.0] * 3] * 2, [1.0, 0.0], np.float64)
    for other, says in (((np.ones((2, 4)), np.zeros(2)), r"\(2, 4\)"), ((np.ones((2, 3)), np.zeros(5)), r"\(5,\)")):
        with pytest.raises(ValueError, match=says):
            call(*inputs, other=other)
