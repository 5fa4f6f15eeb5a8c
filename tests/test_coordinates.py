"""The coordinates of a case: what tells rows apart, and the words for it."""

from __future__ import annotations

import gradkernels as gk
from gradkernels.bench.isolation.messages import decode, encode
from gradkernels.bench.run.messages import KernelMeasured, PeakMeasured
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.record import CASE, Measurement, Status

NORMS = Coordinates("linear", "norms", 10, 3, "float32", "F", "cpu", 2)


def test_a_case_says_its_coordinates_in_names_and_numbers():
    case = gk.Case(gk.LinearRegression(), "norms", 10, "float32", "cpu", 2, "F", 7, 3)
    assert case.coordinates == NORMS
    assert CASE == ("problem", "quantity", "n", "features", "dtype", "layout", "device", "threads")


def test_cases_of_one_curve_differ_in_n_alone_and_are_ordered_by_it():
    curve = [NORMS.at(n) for n in (100, 10, 1000)]
    assert {one.at(ALL_SIZES) for one in curve} == {NORMS.at(ALL_SIZES)}
    assert [one.n for one in sorted(curve)] == [10, 100, 1000]


def test_what_does_not_go_without_saying_is_said():
    plain = Coordinates("linear", "norms", 10, 1, "float64", "C", "cpu", 1)
    assert plain.unusual() == {}
    assert NORMS.unusual() == {"features": 3, "dtype": "float32", "layout": "F", "threads": 2}
    assert plain.described("=") == (
        "problem=linear, quantity=norms, n=10, features=1, dtype=float64, layout=C, device=cpu, threads=1"
    )


def test_what_was_measured_travels_as_it_is():
    ok = Measurement("numpy.loop.norms", "numpy", Status.ok, error=0.0, tolerance=1e-12, seconds_median=1e-6, rounds=3)
    for report in (KernelMeasured(2, ok), PeakMeasured(0, "numpy.loop.norms", None), PeakMeasured(0, "x", 8)):
        assert decode(encode(report), (KernelMeasured, PeakMeasured)) == report
