"""Every quantity of real models, in padded batches and full ones, against one backward pass for each sample alone."""

from functools import cache

import pytest
import torch
from families import FAMILIES, rows
from matrices import matrix

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit

TOLERANCE = 1e-5
"""Of a row's norm; what is measured is about 1e-7."""


def core(name, full):
    """What has to be tried: core families in padded batches, in which faults have been, and a full one."""
    return [full, name] if FAMILIES[name].core and not full else [full]


each_batch = matrix("name,full", FAMILIES, [False, True], occurring=core, ids=lambda one: FILLED.get(one, one))
FILLED = {False: "padded", True: "full"}


@cache
def batch(name, full):
    """The model, a batch, its rows, and their norms, in double precision."""
    family = FAMILIES[name]
    model, (x, y) = family.make(), family.data(full=full)
    want = rows(model, family.loss, x, y)
    norms = torch.stack([one.flatten(1).norm(dim=1) for one in want.values()]).norm(dim=0)
    assert (norms > 1e-4).all()  # a row of zeros would prove nothing
    return model, x, y, want, norms


def problem_of(name, model):
    return gk.ModuleProblem(model, FAMILIES[name].loss, mixing="own")


@each_batch
def test_every_quantity(name, full):
    model, x, y, want, norms = batch(name, full)
    problem, limit = problem_of(name, model), float(norms.median())
    factor = (limit / norms).clamp(max=1)
    got = gk.per_sample(problem, None, x, y)
    assert list(got) == list(want)
    clipped = gk.clipped_sum(problem, None, x, y, max_norm=limit)
    mean = gk.gradient(problem, None, x, y)
    moments = gk.moments(problem, None, x, y)
    torch.testing.assert_close(gk.norms(problem, None, x, y).double(), norms, rtol=TOLERANCE, atol=0)
    for key, row in want.items():
        close(got[key], row, norms.view(-1, *[1] * (row.ndim - 1)))
        close(clipped[key], torch.tensordot(factor, row, 1), limit * len(norms))
        close(mean[key], row.mean(0), norms.mean())
        close(moments.mean[key], row.mean(0), norms.mean())
        close(moments.variance[key], row.var(0, correction=0), norms.square().mean())


def close(got, want, scale):
    assert got.shape == want.shape
    assert ((got.double() - want).abs() <= TOLERANCE * scale).all()


@each_batch
def test_who_computes(name, full):
    """Hooks can follow the model, or say that they cannot; no number is wrong."""
    model, x, y, want, norms = batch(name, full)
    problem = problem_of(name, model)
    if not FAMILIES[name].followed:
        with pytest.raises(Unfit):
            gk.per_sample(problem, None, x, y, kernel="torch.hooks")
        return
    got = gk.per_sample(problem, None, x, y, kernel="torch.hooks")
    for key, row in want.items():
        close(got[key], row, norms.view(-1, *[1] * (row.ndim - 1)))
