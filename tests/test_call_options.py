"""Options that a quantity is proven and timed with: drawn for the case, in its dtype, in arrays of a library."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.check.call_options import arrays_in, given, needed, options_in, proving, with_needed
from gradkernels.quantity import QUANTITIES, Draw, Option

INPUTS = THETA, X, Y = np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0]), np.array([6.0, 7.0, 8.0])
NUMPY = BACKENDS["numpy"]


def quantity(**changes):
    """One that needs a vector, and has two settings."""
    known = {
        "options": (Option("v", None), Option("bound", None), Option("other", None, batch=True)),
        "needs": lambda draw: {"v": np.array([0.1, draw.n])},
        "settings": lambda draw: iter(
            [(" low", {"bound": float(draw.norms[0])}), (" high", {"bound": 9, "v": np.ones(2)})]
        ),
    }
    return replace(QUANTITIES["norms"], name="made", **known | changes)


def case(dtype="float64", **changes):
    return gk.Case(gk.LinearRegression(), quantity(**changes), 3, dtype, seed=7)


def told(options):
    return {name: (value.dtype.name, value.tolist()) if hasattr(value, "dtype") else value
            for name, value in options.items()}  # fmt: skip


def test_options_are_drawn_for_the_samples_parameters_and_seed_of_the_case():
    seen = []
    of = case(needs=lambda draw: seen.append(draw) or {}, settings=lambda draw: seen.append(draw) or iter(()))
    needed(of, INPUTS, NUMPY)
    assert len([*proving(of, INPUTS, [0.5, 2.0, 0.0])]) == 1
    assert seen == [Draw(3, THETA, 7, batch=(X, Y))] * 2 + [Draw(3, THETA, 7, [0.5, 2.0, 0.0], (X, Y))]
    assert all(draw.theta is THETA for draw in seen)


@pytest.mark.parametrize(("dtype", "tenth"), [("float64", 0.1), ("float32", 0.10000000149011612)])
def test_a_quantity_is_proven_with_what_it_needs_and_with_each_setting_in_the_dtype_of_the_case(dtype, tenth):
    v = dtype, [tenth, 3.0]
    assert told(needed(case(dtype), INPUTS, NUMPY)) == {"v": v}
    made = [(says, told(options)) for says, options in proving(case(dtype), INPUTS, np.array([0.5, 2.0, 0.0]))]
    assert made == [("", {"v": v}), (" low", {"v": v, "bound": 0.5}),
                    (" high", {"v": (dtype, [1.0, 1.0]), "bound": 9})]  # fmt: skip


@pytest.mark.parametrize(
    ("norms", "drops", "settings"),
    [([], False, 0), ([1.0], False, 2), ([1.0, np.nan], False, 0), ([np.inf, 1.0], False, 0), ([np.inf], True, 2),
     ([], True, 0)],
)  # fmt: skip
def test_settings_are_made_of_lengths_that_are_finite_unless_the_quantity_drops_others(norms, drops, settings):
    assert len([*proving(case(drops=drops), INPUTS, np.array(norms))]) == 1 + settings


def test_float64_arrays_alone_are_converted_wherever_they_are():
    whole, half = np.array([1, 2]), np.array([0.5], "f2")
    options = {"a": {"b": np.array([0.1]), "c": whole}, "d": (half, np.array([True])), "e": 0.1, "f": "word", "g": None}
    made = options_in(options, "float32")
    assert (made["a"]["b"].dtype, made["a"]["c"], made["d"][0]) == (np.float32, whole, half)
    assert (made["d"][1].dtype, made["e"], made["f"], made["g"]) == (bool, 0.1, "word", None)


def test_a_kernel_is_given_copies_of_its_library_and_numbers_of_groups_as_they_are():
    put = []
    library = SimpleNamespace(put=lambda value, device: put.append((value, device)) or torch.zeros(1))
    v, groups, other = np.array([1.0, 2.0]), np.array([0, 1, 0]), (X, groups_of := np.array([0, 1, 2]))
    options = {"v": {"one": v, "two": v}, "groups": groups, "other": other, "bound": 3.0}
    taken = given(quantity(), options, library, "there")
    assert [device for _, device in put] == ["there"] * 3
    assert [value.tolist() for value, _ in put[:2]] == [[1.0, 2.0]] * 2
    assert all(value is not v for value, _ in put[:2]), "what a kernel writes to is none of the proof's"
    assert put[2][0] is other
    assert put[2][0][1] is groups_of
    assert [*taken] == ["v", "groups", "other", "bound"]
    assert [*taken["v"]] == ["one", "two"]
    assert isinstance(taken["v"]["one"], torch.Tensor)
    assert isinstance(taken["other"], torch.Tensor)
    assert (taken["groups"] is groups, taken["bound"]) == (True, 3.0)
    needed(replace(case(), device="cuda:1"), INPUTS, library)
    assert [device for _, device in put[3:]] == ["cuda:1"]


def test_floating_arrays_are_told_from_other_options():
    a, b, c = np.array([1.0]), torch.ones(2), np.array([0.5], "f4")
    options = {
        "v": {"one": a, "two": (b, 3.0)},
        "groups": np.array([0]),
        "words": "none",
        "w": c,
        "mask": torch.ones(1).int(),
    }
    assert [id(one) for one in arrays_in(options)] == [id(a), id(b), id(c)]


def test_what_is_timed_takes_theta_x_and_y_alone():
    def compute(theta, x, y, **options):
        return theta, x, y, told(options)

    assert with_needed(compute, case(needs=lambda draw: {}), INPUTS, NUMPY) is compute
    found = with_needed(compute, case("float32"), INPUTS, NUMPY)(1, 2, 3)
    assert found == (1, 2, 3, {"v": ("float32", [0.10000000149011612, 3.0])})
