"""Options of quantities: what is wrong with them is said in a sentence."""

import re

import numpy as np
import pytest
import torch
from hand_worked import THETA, P, X, Y
from torch import nn

import gradkernels as gk

BAD = [
    ("inner", {"v": [1.0]}, ValueError, "v is (1,); it must be (2,), or ('K', 2) for K directions"),
    ("inner", {"v": "abc"}, TypeError, "v is a str; pass an array, or a list of numbers"),
    ("inner", {"v": torch.ones(2)}, TypeError, "v is an array of torch, theta of numpy; pass both of the same library"),
    ("weighted_sum", {"weights": [1.0]}, ValueError,
     "weights is (1,); it must be (3,) or (3, K), as there are 3 samples"),
    ("group_sums", {"groups": [0, 1], "count": 2}, ValueError,
     "groups is (2,); it must be (3,), as there are 3 samples"),
    ("group_sums", {"groups": [0, 1, 2], "count": 2}, ValueError,
     "groups holds 2, count is 2; count must be above every group's number"),
    ("group_sums", {"groups": [0, -1, 2], "count": 3}, ValueError, "groups holds -1; groups are numbered from 0 on"),
    ("group_sums", {"groups": [0.5, 1, 2], "count": 3}, TypeError,
     "groups holds float64; it must hold whole numbers, the group of each sample"),
    ("group_sums", {"groups": [0, 1, 2], "count": 0}, ValueError,
     "count is 0; it must be a whole number of at least 1"),
    ("project", {"size": 2.5}, ValueError, "size is 2.5; it must be a whole number of at least 1"),
    ("project", {"size": 4, "kind": "sparse"}, ValueError, "kind is 'sparse'; it must be one of gaussian, factored"),
    ("gram", {"other": X}, TypeError, "other is a ndarray; it must be (x, y), samples like those of the call"),
    ("weighted_sum", {"weights": [1j, 1, 2]}, TypeError, "weights is a list; pass an array, or a list of numbers"),
    ("weighted_sum", {"weights": np.array([1j, 1, 2])}, TypeError,
     "weights holds complex128; it must hold real numbers"),
    ("weighted_sum", {"weights": [1, None, 2]}, TypeError, "weights is a list; pass an array, or a list of numbers"),
    ("group_sums", {"groups": [[0], [1, 1]], "count": 2}, TypeError,
     "groups holds object; it must hold whole numbers, the group of each sample"),
    ("group_sums", {"groups": np.array([0, 1, 2**63], np.uint64), "count": 2}, ValueError,
     "groups holds 9223372036854775808; the highest number of a group is 9223372036854775807"),
    ("project", {"kind": np.array(["gaussian", "x"])}, ValueError,
     "kind is array(['gaussian', 'x'], dtype='<U8'); it must be one of gaussian, factored"),
    ("norms", {"by": {"a": []}}, TypeError,
     "by['a'] is []; it must be a glob or a list of them, such as ['head.*']"),
    ("norms", {"by": {"a": 3}}, TypeError, "by['a'] is 3; it must be a glob or a list of them, such as ['head.*']"),
    ("norms", {"by": ()}, TypeError,
     "by is (); it must be 'parameter', or lists of globs by group: {'head': ['head.*']}"),
    ("norms", {"by": (("a", ("none",)),)}, TypeError,
     "by is (('a', ('none',)),); it must be 'parameter', or lists of globs by group: {'head': ['head.*']}"),
    ("norms", {"by": (("a", ("theta",)), ("b", ("theta",)))}, TypeError,
     "by is (('a', ('theta',)), ('b', ('theta',))); it must be 'parameter', or lists of globs by group: "
     "{'head': ['head.*']}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "error", "says"), BAD, ids=[f"{one[0]}-{i}" for i, one in enumerate(BAD)])
def test_bad_options_are_named(name, options, error, says, module):
    with pytest.raises(error, match=f"^{re.escape(says)}$"):
        getattr(gk, name)(P, THETA, X, Y, **options)


def test_directions_of_a_module_have_its_names_and_shapes(module):
    problem, x, y, rows = module
    v = {name: torch.zeros_like(g[0]) for name, g in rows.items()}
    with pytest.raises(ValueError, match=r"^v and theta differ in '0.weight'; the names must be those of theta$"):
        gk.inner(problem, None, x, y, {name: one for name, one in v.items() if name != "0.weight"})
    with pytest.raises(ValueError, match=r"^v has parts with leading axes \(\) and \(2,\); give each the same"):
        gk.inner(problem, None, x, y, v | {"0.bias": torch.zeros(2, 3)})


def test_the_kernel_itself_looks_at_options():
    """Its group numbers would be places of an array, where -1 is the last."""
    outer = gk.fastest(P, "outer", like=(THETA, X, Y))
    assert outer(THETA, X, Y, groups=[7, 7, 3]).tolist() == [[16, 32], [32, 68]]
    sums = gk.fastest(P, "group_sums", like=(THETA, X, Y))
    assert sums(THETA, X, Y, [1, 0, 1], 2).tolist() == [[-2, -2], [-2, -8]]
    with pytest.raises(ValueError, match=r"^groups holds -1; groups are numbered from 0 on$"):
        sums(THETA, X, Y, groups=np.array([0, -1, 0]), count=2)
    with pytest.raises(TypeError, match=r"^group_sums has no groups; pass groups=$"):
        sums(THETA, X, Y)
    assert gk.fastest(P, "inner", like=(THETA, X, Y))(THETA, X, Y, [1, 10]).tolist() == [2, -22, -84]


OPTIONS = {"weighted_sum": "weights", "inner": "v"}


def test_what_a_quantity_cannot_do_without_is_asked_for():
    kernel = gk.fastest(P, "norms", n=3)
    assert kernel(THETA, X, Y).shape == (3,)
    problem = gk.ModuleProblem(nn.Linear(1, 1), nn.MSELoss())
    for name, option in OPTIONS.items():
        bound = gk.fastest(problem, name, like=(None, torch.ones(3, 1), torch.ones(3, 1)))
        with pytest.raises(TypeError, match=f"^{name} has no {option}; pass {option}=$"):
            bound(None, torch.ones(3, 1), torch.ones(3, 1))
