"""Trees of arrays: leaves in order, structure kept."""

import numpy as np
import pytest

from gradkernels.problems import Weighted
from gradkernels.tree import count, each, leaves, named, take

A, B, C = np.arange(3.0), np.arange(3.0) + 10, np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (A, ["y"]),
        ((A, B), ["y[0]", "y[1]"]),
        (Weighted(A, B), ["y.target", "y.sample_weight"]),
        ({"ids": A, "more": (B, C)}, ["y['ids']", "y['more'][0]", "y['more'][1]"]),
    ],
)
def test_every_leaf_has_a_name_a_place_and_a_number_of_samples(tree, names):
    assert [name for name, _ in named("y", tree)] == names
    assert all(one is other for one, (_, other) in zip(leaves(tree), named("y", tree), strict=True))
    assert count(tree) == 3
    doubled = each(lambda array: 2 * array, tree)
    assert type(doubled) is type(tree)
    assert [leaf.tolist() for leaf in leaves(doubled)] == [(2 * leaf).tolist() for leaf in leaves(tree)]


def test_several_trees_are_walked_together():
    assert each(lambda a, b: a + b, (1, {"x": 2}), (10, {"x": 20})) == (11, {"x": 22})


def test_samples_are_taken_from_every_leaf():
    taken = take(Weighted(A, B), slice(1, 3))
    assert (taken.target.tolist(), taken.sample_weight.tolist()) == ([1, 2], [11, 12])


def test_structures_that_differ_are_refused():
    with pytest.raises(ValueError, match="zip"):
        each(lambda a, b: a, (A, B), (A,))
