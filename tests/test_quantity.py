"""The definitions of the quantities, in each array library, for one array and for a dict of parameters."""

import numpy as np
import pytest

from gradkernels.backend import BACKENDS
from gradkernels.check import call_options
from gradkernels.check.call_options import options_in
from gradkernels.names import unknown
from gradkernels.quantity import QUANTITIES, Draw, Moments, quantity
from gradkernels.tree import each, leaves

# Two samples of a (2, 2) and a scalar parameter; norms 5 and 13 over both.
WHOLE = np.array([[[0.0, 3], [4, 0]], [[3, 4], [0, 0]]])
SCALAR = np.array([0.0, 12])
EXPECTED = {
    "gradient": ([[1.5, 3.5], [2, 0]], 6),
    "per_sample": (WHOLE, SCALAR),
    "norms": (5, 13),
    "moments": ([[1.5, 3.5], [2, 0]], 6, [[2.25, 0.25], [4, 0]], 36),
    "clipped_sum": (WHOLE[0] / 5 + WHOLE[1] / 13, 12 / 13),
    "weighted_sum": ([[-3, 2], [8, 0]], -12),
    "group_sums": ([[[0, 0], [0, 0]], [[3, 7], [4, 0]]], [0, 12]),
    "inner": [7, 31],
    "gram": [[25, 12], [12, 169]],
    "outer": [[9, 12, 0, 0, 36], [12, 25, 12, 0, 48], [0, 12, 16, 0, 0], [0, 0, 0, 0, 0], [36, 48, 0, 0, 144]],
}
OPTIONS = {
    "weighted_sum": {"weights": np.array([2.0, -1])},
    "group_sums": {"groups": np.array([1, 1]), "count": 2},
    "inner": {"v": {"w": np.ones((2, 2)), "b": np.array(2.0)}},
}


def given(backend, name, dtype="float64"):
    """Options in a library's arrays, numbers of groups as they are."""

    def placed(value):
        return value if np.asarray(value).dtype.kind == "i" else backend.put(value.astype(dtype))

    return {option: each(placed, value) for option, value in OPTIONS.get(name, {}).items()}


@pytest.fixture(params=BACKENDS)
def backend(request):
    return BACKENDS[request.param]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_definition_over_a_dict_of_parameters(name, backend):
    g = {"w": backend.put(WHOLE), "b": backend.put(SCALAR)}
    result = leaves(QUANTITIES[name].of(backend.xp, g, **given(backend, name)))
    expected = EXPECTED[name] if QUANTITIES[name].per_parameter else [np.array(EXPECTED[name])]
    for got, want in zip(result, expected, strict=True):
        np.testing.assert_allclose(backend.get(got), want, rtol=1e-15)


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_definition_keeps_the_dtype_and_has_the_shape_it_says(name, dtype, backend):
    g, theta = backend.put(np.ones((4, 3, 2), dtype)), np.ones((3, 2))
    options = options_in(QUANTITIES[name].needs(Draw(4, theta)), dtype)
    taken = call_options.given(QUANTITIES[name], options, backend, "cpu")
    for leaf, blank in zip(
        leaves(QUANTITIES[name].of(backend.xp, g, **taken)), leaves(QUANTITIES[name].blank(4, theta)), strict=True
    ):
        assert str(leaf.dtype).removeprefix("torch.") == dtype
        assert tuple(leaf.shape) == blank.shape


@pytest.mark.parametrize(
    ("max_norm", "expected"), [(10.0, (3.0, 4.0)), (5.0, (3.0, 4.0)), (2.5, (1.5, 2.0)), (np.inf, None)]
)
def test_clipping_only_shortens(max_norm, expected, backend):
    rows = np.array([[3.0, 4], [0, 0]])
    result = backend.get(QUANTITIES["clipped_sum"].of(backend.xp, backend.put(rows), max_norm=max_norm))
    np.testing.assert_allclose(result, (3.0, 4.0) if expected is None else expected, rtol=1e-15)


def test_the_leaves_of_nested_results_come_in_order():
    assert leaves(Moments({"a": 1, "b": 2}, {"a": 3, "b": 4})) == [1, 2, 3, 4]


def test_a_quantity_is_found_by_name_and_by_itself():
    assert quantity("norms") is quantity(quantity("norms"))
    assert str(quantity("norms")) == "norms"


def test_an_unknown_name_lists_near_ones_or_all():
    assert unknown("fruit", "aple", ["apple", "orange"]) == "there is no fruit 'aple'; did you mean apple?"
    assert unknown("fruit", "zzz", ["apple", "orange"]) == "there is no fruit 'zzz'; known: apple, orange"
