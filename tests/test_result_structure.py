"""What a kernel returns for a module has the quantity's structure, dtype and shape, and memory of its own."""

import pytest
import torch

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.result_structure import require_structure
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.quantity import QUANTITIES, Moments

N = 4
THETA = {"a": torch.zeros(2), "b": torch.zeros(3, 1, dtype=torch.bfloat16)}
BATCH = CallerBatch(None, THETA, (torch.zeros(N, 5), torch.zeros(N)), torch.zeros(N))


def said(quantity, result, batch=BATCH):
    """The message, or None."""
    try:
        require_structure(result, QUANTITIES[quantity], batch, "here")
    except Disagreement as fault:
        return str(fault)
    return None


def like(*lead, **changes):
    """A gradient by parameter, after so many axes of samples."""
    made = {name: torch.zeros(*lead, *one.shape, dtype=one.dtype) for name, one in THETA.items()}
    return {**made, **changes}


@pytest.mark.parametrize(
    ("quantity", "result"),
    [
        ("per_sample", like(N)),
        ("gradient", like()),
        ("clipped_sum", like()),
        ("moments", Moments(like(), like())),
        ("moments", Moments(like(b=torch.zeros(3, 1)), like(b=torch.zeros(3, 1)))),  # in more than theta's precision
        ("norms", torch.zeros(N)),
        ("norms", torch.zeros(N, dtype=torch.float64)),
    ],
)
def test_what_has_the_structure_is_taken(quantity, result):
    assert said(quantity, result) is None


@pytest.mark.parametrize(
    ("quantity", "result", "says"),
    [
        ("per_sample", torch.zeros(N), "here: returned a Tensor, not per_sample's structure"),
        ("per_sample", {"a": torch.zeros(N, 2)}, "here: returned a dict that lacks ['b'] parameters and has no others"),
        ("moments", (like(), like()), "here: returned a tuple, not moments's structure"),
        ("norms", torch.zeros(N, 1), "here: shape (4, 1), expected (4,)"),
        ("per_sample", like(N - 1), "here: a: shape (3, 2), expected (4, 2)"),
        ("per_sample", like(N, b=torch.zeros(N, 3, dtype=torch.bfloat16)), "here: b: shape (4, 3), expected (4, 3, 1)"),
        ("moments", Moments(like(), like(a=torch.zeros(3))), "here: a: shape (3,), expected (2,)"),
        ("per_sample", like(N, b=torch.zeros(N, 3, 1)), "here: b: dtype torch.float32, expected torch.bfloat16"),
        ("gradient", like(a=torch.zeros(2).double()), "here: a: dtype torch.float64, expected torch.float32"),
        ("gradient", like(a=torch.zeros(2, requires_grad=True)), "here: a: part of a graph; detach it"),
        ("norms", torch.zeros(N, requires_grad=True), "here: part of a graph; detach it"),
        ("gradient", like(a=THETA["a"]), "here: a: returned memory of one of its inputs"),
        ("norms", BATCH.y, "here: returned memory of one of its inputs"),
        ("norms", BATCH.x[1], "here: returned memory of one of its inputs"),
        ("norms", BATCH.x[0][:, 0], "here: returned memory of one of its inputs"),
    ],
)  # fmt: skip
def test_what_is_something_else_is_refused_with_its_place(quantity, result, says):
    assert said(quantity, result) == says
