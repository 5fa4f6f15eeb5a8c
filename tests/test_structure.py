"""Results as the proof sees them: of the quantity's structure, laid side by side in theta's order, or refused."""

import re
from collections import OrderedDict

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.check.structure import conforming, entry_namer
from gradkernels.quantities.clipped_sum_by import Clipped
from gradkernels.quantity import Moments

A, B = np.arange(4.0).reshape(2, 2), np.arange(4.0, 7)
DICT = {"a": np.zeros((2, 2)), "b": np.zeros(3)}
PLAIN = np.zeros(2)
Y = np.zeros(2)


def conformed(result, quantity, theta=DICT, options=None):
    return conforming(result, gk.Case(gk.LinearRegression(), quantity, 2), theta, Y, "here", options)


def test_a_dict_becomes_one_array_in_thetas_order():
    assert conformed({"a": A, "b": B}, "gradient").tolist() == [0, 1, 2, 3, 4, 5, 6]
    rows = {"a": np.stack([A, 10 * A]), "b": np.stack([B, 10 * B])}
    assert conformed(rows, "per_sample").tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 10, 20, 30, 40, 50, 60]]
    mean, variance = conformed(Moments({"a": A, "b": B}, {"a": 2 * A, "b": 2 * B}), "moments")
    assert mean.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert variance.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert conformed(np.array([1.0, 2.0]), "norms").tolist() == [1, 2]
    assert conformed(Clipped({"a": A, "b": B}, np.array([8.0, 9.0])), "clipped_sum_by").tolist() == [*range(7), 8, 9]
    options = {"by": (("one", ("b", "a")),)}
    found = Clipped({"a": A, "b": B}, {"one": np.array([8.0, 9.0])})
    assert conformed(found, "clipped_sum_by", options=options).tolist() == [*range(7), 8, 9]
    products = {
        "one": np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
        "two": np.array([[6.0, 7.0, 8.0], [9.0, 8.0, 7.0]]),
    }
    options = {"by": (("one", ("b",)), ("two", ("a",))), "other": (np.zeros(3), np.zeros(3))}
    assert conformed(products, "gram_by", options=options).tolist() == [
        [[0, 6], [1, 7], [2, 8]], [[3, 9], [4, 8], [5, 7]],
    ]  # fmt: skip


def test_arrays_of_any_library_and_dtype_become_float64():
    torch = pytest.importorskip("torch")
    case = gk.Case(gk.LinearRegression(), "per_sample", 2, "float32")
    found = conforming(torch.tensor([[0.5, 1], [2, 3]]), case, PLAIN.astype("f4"), Y, "here")
    assert found.dtype == np.float64
    assert found.tolist() == [[0.5, 1], [2, 3]]


@pytest.mark.parametrize(
    ("quantity", "theta", "result", "says"),
    [
        ("per_sample", PLAIN, (PLAIN, PLAIN), "returned a tuple, not per_sample's structure"),
        ("norms", DICT, {"a": A, "b": B}, "returned a dict, not norms's structure"),
        ("gradient", DICT, A, "returned a ndarray, not gradient's structure"),
        ("gradient", DICT, {"a": A}, "returned a dict that lacks ['b'] parameters and has no others"),
        ("gradient", DICT, {"a": A, "b": B, "c": B}, "returned a dict that lacks no parameters and has ['c'] others"),
        ("gradient", DICT, {"a": A, "c": B}, "returned a dict that lacks ['b'] parameters and has ['c'] others"),
        ("gradient", DICT, OrderedDict(b=B, a=A), "returned a dict with all of theta's parameters, but their order is "
         "not theta's"),
        ("gradient", DICT, {"a": {"b": A}, "b": B}, "returned a dict whose 'a' is a dict, not an array"),
        ("gradient", DICT, {"b": B, "a": (A, A)}, "returned a dict whose 'a' is a tuple, not an array"),
        ("gradient", DICT, {"a": A, "b": None}, "returned a dict whose 'b' is a NoneType, not an array"),
        ("gradient", DICT, {"a": A, "b": [1.0, 2.0, 3.0]}, "returned a dict whose 'b' is a list, not an array"),
        ("norms", PLAIN, None, "returned a NoneType, not norms's structure"),
        ("moments", PLAIN, (PLAIN, PLAIN), "returned a tuple, not moments's structure"),
        ("moments", PLAIN, Moments(PLAIN, 0.5), "returned a Moments whose variance is a float, not an array"),
        ("moments", DICT, Moments(A, A), "returned a Moments whose mean is a ndarray, not a dict of theta's "
         "parameters"),
        ("moments", DICT, Moments({"a": A, "b": B}, {"a": A}), "returned a Moments whose variance is a dict that lacks "
         "['b'] parameters and has no others"),
        ("moments", DICT, Moments({"a": {}, "b": B}, {"a": A, "b": B}), "returned a Moments whose mean is a dict whose "
         "'a' is a dict, not an array"),
        ("gradient", DICT, {"a": A.astype("f4"), "b": B}, "['a']: dtype float32, expected float64"),
        ("gradient", DICT, {"a": A, "b": B[:2]}, "['b']: shape (2,), expected (3,)"),
        ("norms", DICT, np.zeros(3), "shape (3,), expected (2,)"),
        ("gradient", PLAIN, PLAIN.astype("f4"), "dtype float32, expected float64"),
        ("per_sample", PLAIN, np.zeros((2, 3)), "shape (2, 3), expected (2, 2)"),
    ],
)  # fmt: skip
def test_another_structure_dtype_or_shape_is_refused_by_name(quantity, theta, result, says):
    with pytest.raises(gk.Disagreement, match=f"^here: {re.escape(says)}$"):
        conformed(result, quantity, theta)


def test_entries_are_called_by_the_parameter_that_they_are_in():
    tell = entry_namer(DICT)
    names = {(1, 0): "entry (1, 0, 0) of a", (1, 3): "entry (1, 1, 1) of a", (1, 4): "entry (1, 0) of b",
             (6,): "entry (2,) of b", (7,): "entry (7,)", (): "entry ()"}  # fmt: skip
    assert {at: tell(at) for at in names} == names
    assert entry_namer(PLAIN)((3, 1)) == "entry (3, 1)"
