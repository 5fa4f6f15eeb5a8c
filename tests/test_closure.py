"""What a function computes with besides its arguments: changes of it are seen, and nothing else."""

import functools

import numpy as np
import pytest

from gradkernels.problems.function.closure import Closure

SCALE = 1.0


class Model:
    def __init__(self):
        self.weights, self.parts = np.zeros(3), [1, {"a": 2.0}]

    def losses(self, x):
        return x * self.weights

    def __call__(self, x):
        return self.losses(x)


MODEL = Model()


def by_global(x):
    return [SCALE * one for one in x]


def by_cell():
    factor = [float("nan"), 1000]

    def losses(x, offset=MODEL):
        return factor[1] * x, offset

    return losses, factor


def change_global():
    global SCALE
    SCALE += 1


LOSSES, FACTOR = by_cell()
CHANGES = {
    "a global name": (by_global, change_global),
    "a list in a cell": (LOSSES, lambda: FACTOR.append(1)),
    "a default": (LOSSES, lambda: MODEL.parts.append(1)),
    "an array of a bound method": (MODEL.losses, lambda: MODEL.weights.__setitem__(1, MODEL.weights[1] + 1)),
    "an attribute of an object": (MODEL, lambda: setattr(MODEL, "name", object())),
    "a part of a part": (functools.partial(LOSSES, offset=MODEL), lambda: MODEL.parts[1].update(a=object())),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_seen(name):
    function, change = CHANGES[name]
    before = Closure(function)
    assert Closure(function) == before
    assert hash(Closure(function)) == hash(before)
    change()
    assert Closure(function) != before


def test_a_function_may_hold_itself():
    def losses(x):
        return losses

    assert Closure(losses) == Closure(losses)
