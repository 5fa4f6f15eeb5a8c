"""Kernels of quantities with options that are wrong in one place are rejected."""

from dataclasses import replace

import numpy as np
import pytest
from hand_worked import P

import gradkernels as gk
from gradkernels.quantity import QUANTITIES


def one_off(result, n):
    result = result.copy()
    result.flat[0] += 0.01 * abs(result).max()
    return result


MUTANTS = {
    "doubled": (QUANTITIES, lambda result, n: 2 * result),
    "rows in reverse order": (("inner", "project"), lambda result, n: result[::-1].copy()),
    "what is off the diagonal in reverse order": (
        ("gram",), lambda result, n: np.where(np.eye(n, dtype=bool), result, result[::-1])
    ),
    "one entry off": (QUANTITIES, one_off),
}  # fmt: skip
NEW = ("weighted_sum", "group_sums", "inner", "gram", "outer", "project")


@pytest.mark.parametrize(
    ("mutant", "name"), [(mutant, name) for mutant, (names, _) in MUTANTS.items() for name in NEW if name in names]
)
def test_mutants_are_rejected(mutant, name):
    honest, change = gk.kernel(f"numpy.broadcast+.{name}"), MUTANTS[mutant][1]

    def build(problem, **options):
        compute = honest.build(problem)
        return lambda theta, x, y, **given: change(compute(theta, x, y, **given), len(y))

    gk.check(honest, gk.Case(P, name, 5, features=2))
    with pytest.raises(gk.Disagreement):
        gk.check(replace(honest, builder=build), gk.Case(P, name, 5, features=2))


def test_weights_that_moved_by_one_sample_are_rejected():
    honest = gk.kernel("numpy.broadcast+.weighted_sum")

    def build(problem, **options):
        compute = honest.build(problem)
        return lambda theta, x, y, weights: compute(theta, x, y, weights=np.roll(weights, 1, 0))

    with pytest.raises(gk.Disagreement):
        gk.check(replace(honest, builder=build), gk.Case(P, "weighted_sum", 5))


def test_a_kernel_that_writes_to_an_option_or_hands_it_out_is_rejected():
    def changed(result, weights):
        weights[-1] += 1
        return result

    wrong = (
        (changed, "changed one of its options"),
        (lambda result, weights: weights, "returned memory of one of its"),
    )
    for change, says in wrong:
        honest = gk.kernel("numpy.broadcast+.weighted_sum")

        def build(problem, honest=honest, change=change):
            compute = honest.build(problem)
            return lambda theta, x, y, weights: change(compute(theta, x, y, weights=weights), weights)

        case = gk.Case(P, "weighted_sum", 2)  # as many samples as parameters
        with pytest.raises(gk.Disagreement, match=says):
            gk.check(replace(honest, builder=build), case)
