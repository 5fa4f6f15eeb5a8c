"""Rows that a working precision cannot know: rounding takes a ReLU to its other side."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from first_five import FIVE
from matrices import matrix

import gradkernels as gk
from gradkernels.check import prove
from gradkernels.check.reference import true_gradients
from gradkernels.tree import each

N, AT = 100, 37
KINK = [1.0, 2.0**-24, -1.0]
"""From left to right their sum is 2^-24, and 0 in float32, where 1 + 2^-24 is 1."""

WAYS = ("torch.hooks", "torch.vmap", "torch.loop")


class Kink(torch.nn.Module):
    """The sum of three weighted inputs through a ReLU, and the fourth."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        one, two, three, four = (self.weight * x).unbind(1)
        return torch.relu(one + two + three) + four


def case_of(quantity, dtype="float32"):
    """Every sample's gradient is its x, but that of the kink: in float32 it lacks all but the last entry."""
    problem = gk.ModuleProblem(Kink(), lambda output, y: (output * y).mean(), reduction="mean")
    x = np.random.default_rng(0).uniform(1, 4, (N, 4)).astype(np.float32)
    x[AT, :3] = KINK
    case = gk.Case(problem, quantity, N, dtype)
    return case, case.cast(({"weight": np.ones(4)}, x, np.ones(N)))


def kernel_of(way, quantity):
    known = [one for one in gk.kernels(case_of(quantity)[0].problem) if one.key.rstrip("+").startswith(way)]
    return next(one for one in known if one.quantity.name == quantity and "[" not in one.key)


@matrix("dtype,quantity,way", ["float32", "float64"], FIVE, WAYS)
def test_no_honest_kernel_is_wrong_at_a_kink(way, quantity, dtype):
    case, inputs = case_of(quantity, dtype)
    kernel = kernel_of(way, quantity)
    prove(kernel, kernel.build(case.problem), case, inputs)


@pytest.mark.parametrize(("dtype", "off"), [("float32", 2**0.5), ("float64", 0)])
def test_a_row_is_known_up_to_what_rounding_may_turn(dtype, off):
    case, inputs = case_of("per_sample")
    true = true_gradients(case.problem, *each(np.float64, inputs))
    assert true.row_errors([0, AT, AT + 1], dtype) == pytest.approx([0, off, 0], rel=1e-9)


@pytest.mark.parametrize(
    ("quantity", "at", "more"),
    [
        ("per_sample", 0, 0.01),
        ("per_sample", AT + 1, 0.01),
        ("per_sample", AT, 25.0),  # 16 times the square root of 2 are left to it
        ("per_sample", slice(None), 0.01),
        ("norms", 0, 0.01),
        ("norms", slice(None), 0.01),
        ("gradient", 0, 25.0),
        ("moments", 0, 25.0),
        ("clipped_sum", slice(None), 1.0),
    ],
)
def test_what_is_wrong_is_found_beside_a_kink_and_at_it(quantity, at, more):
    case, inputs = case_of(quantity)
    kernel = kernel_of("torch.vmap", quantity)

    def compute(theta, x, y, **options):
        rows = gk.kernel("torch.vmap.per_sample").build(case.problem)(theta, x, y)
        rows["weight"] = rows["weight"].clone()
        rows["weight"][at, 0] += more
        return case.quantity.of(torch, rows, **options)

    with pytest.raises(gk.Disagreement, match="off by"):
        prove(replace(kernel, out=False), compute, case, inputs)
