"""Sums of the gradients by group: users of user-level privacy, clusters of a covariance."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import arrays_of
from gradkernels.quantities.shared.arguments import entries_of, group_numbers, whole_number
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth
from gradkernels.row_norms import narrowed, wide
from gradkernels.tree import Tree, each


def _shape(n: int, theta: tuple[int, ...], groups: Any, count: int) -> tuple[int, ...]:
    return (count, *theta)


def _of(xp: Any, g: Tree, groups: Any, count: int) -> Tree:
    return each(lambda rows: narrowed(arrays_of(rows).sum_by(wide(rows), groups, count), rows), g)


def _expect(truth: Truth, groups: Any, count: int) -> tuple[Any, Any]:
    value = np.zeros((count, *truth.rows.shape[1:]))
    np.add.at(value, groups.astype(int), truth.rows)
    scales = np.zeros_like(value)
    for group in np.unique(groups).astype(int):  # of many groups few have samples
        scales[group] = truth.weighted_scale((groups == group).astype(float))
    return value, scales


def _agree(options: Options) -> None:
    groups, count = options["groups"], options["count"]
    if len(groups) and (highest := groups.max()) >= count:
        raise ValueError(f"groups holds {highest}, count is {count}; count must be above every group's number")


def _needs(draw: Draw) -> Options:
    return {"groups": draw.rng.integers(0, 3, draw.n), "count": 4}


GROUP_SUMS = Quantity(
    "group_sums",
    _shape,
    _of,
    _expect,
    options=(
        Option("groups", group_numbers, required=True, by_sample=True),
        Option(
            "count",
            whole_number("count", 1, lambda count, n, theta: count * entries_of(theta)),
            required=True,
            fixed=True,
        ),
    ),
    agree=_agree,
    needs=_needs,
    rank=7,
)
