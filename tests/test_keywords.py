"""What callers say by keyword reaches the kernel, or is done for it: `out=` and `max_norm=`."""

from dataclasses import replace

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.dispatch.keywords import with_keywords
from gradkernels.quantities.shared.arguments import positive

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
