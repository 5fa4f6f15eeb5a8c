"""What a user writes who has per-sample gradients: each call by a line or two of torch on them."""

from __future__ import annotations

import numpy as np
import torch
from quantity_asks import GAMMA

from gradkernels.quantities.project import matrix_blocks
from gradkernels.quantities.shared.projections import factors


def finisher(setting, rows):
    """Return a function that computes what is asked from rows.

    Args:
        setting: What is asked; its options, and for projections the matrices, are made ready here.
        rows: `rows(x, y)`, per-sample gradients by name.
    """
    ask, options, x, y = setting.ask, setting.options, setting.x, setting.y
    if ask.quantity == "project":
        project = _projection(setting)
        return lambda: project(rows(x, y))
    if "other" in options:
        return lambda: products(rows(x, y), rows(*options["other"]))
    of = OF_ROWS[ask.label]
    return lambda: of(rows(x, y), **options)


def products(rows, other):
    """Inner products of each two rows, `(n, m)`."""
    return sum(one.flatten(1) @ two.flatten(1).T for one, two in zip(rows.values(), other.values(), strict=True))


def lengths(rows):
    """Norms over all parameters, `(n,)`."""
    return torch.stack([part.flatten(1).norm(dim=1) for part in rows.values()]).norm(dim=0)


def weighted(weights, rows):
    """Sum of the rows with weights `(n,)` or `(n, k)`."""
    return {name: torch.tensordot(weights.mT if weights.ndim == 2 else weights, part, 1) for name, part in rows.items()}


def _norms(rows, by):
    return {name: part.flatten(1).norm(dim=1) for name, part in rows.items()}


def _inner(rows, v):
    return sum(part.flatten(1) @ _columns(v[name], part.ndim - 1) for name, part in rows.items())


def _columns(v, axes):
    """One direction of a parameter with so many axes as `(m,)`, or several as `(m, k)`."""
    return v.flatten() if v.ndim == axes else v.flatten(1).T


def _clipped_by_parameter(rows, max_norm, by):
    factors_of = {name: (max_norm / norms).clip(max=1.0) for name, norms in _norms(rows, by).items()}
    return {name: torch.tensordot(factors_of[name], part, 1) for name, part in rows.items()}


def _automatic(rows, max_norm, rule, gamma=GAMMA):
    return weighted(max_norm / (lengths(rows) + gamma), rows)


def _with_norms(rows, max_norm, norms_out):
    norms = lengths(rows)
    return weighted((max_norm / norms).clip(max=1.0), rows), norms


def _group_sums(rows, groups, count):
    groups = torch.as_tensor(groups)
    return {name: part.new_zeros(count, *part.shape[1:]).index_add_(0, groups, part) for name, part in rows.items()}


def _flat(rows, flat):
    return torch.cat([part.flatten(1) for part in rows.values()], 1)


OF_ROWS = {
    "norms by=parameter": _norms,
    "inner K=1": _inner,
    "inner K=8": _inner,
    "gram": lambda rows: products(rows, rows),
    "clipped_sum by=parameter": _clipped_by_parameter,
    "clipped_sum rule=automatic": _automatic,
    "clipped_sum norms_out": _with_norms,
    "weighted_sum K=1": lambda rows, weights: weighted(weights, rows),
    "weighted_sum K=8": lambda rows, weights: weighted(weights, rows),
    "group_sums count=8": _group_sums,
    "per_sample flat": _flat,
}
"""By label of what is asked: a function of the rows and the options."""

ALL = (*OF_ROWS, "gram other", "project factored", "project gaussian")


def _projection(setting):
    """Make the matrices of the library's own definition once, and return the product of rows with them."""
    size, seed = setting.options["size"], setting.options["seed"]
    theta = {name: part.detach() for name, part in setting.problem.parameters().items()}
    if setting.options["kind"] == "factored":
        return _two_sided(theta, size, seed)
    matrix = torch.from_numpy(np.concatenate([np.float32(block) for _, block in
                                              matrix_blocks(theta, size, seed, "gaussian")], 1))  # fmt: skip
    return lambda rows: _flat(rows, True) @ matrix.T


def _two_sided(theta, size, seed):
    plain = {name: part for name, part in theta.items() if part.ndim < 2}
    sided = {name: tuple(torch.from_numpy(np.float32(one)) for one in factors(seed, name, tuple(part.shape), size))
             for name, part in theta.items() if part.ndim > 1}  # fmt: skip
    dense = {name: torch.from_numpy(np.concatenate([np.float32(block) for _, block in
                                                    matrix_blocks({name: part}, size, seed, "gaussian")], 1))
             for name, part in plain.items()}  # fmt: skip

    def project(rows):
        total = 0.0
        for name, part in rows.items():
            if name in dense:
                total = total + part.flatten(1) @ dense[name].T
            else:
                outputs, inputs = sided[name]
                total = total + (outputs @ part.flatten(2) @ inputs.T).flatten(1)
        return total

    return project
