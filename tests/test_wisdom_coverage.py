"""Which of several tables answers for a size: the one that compared kernels about there."""

from math import inf, log

import pytest

from gradkernels.case import Case
from gradkernels.dispatch.wisdom.coverage import Known, beyond, gap, nearest_entry, preferred, span
from gradkernels.dispatch.wisdom.entry import MeasuredPoint, WisdomEntry
from gradkernels.problems import HuberRegression, LinearRegression

LINEAR = LinearRegression()
A, B, C = "numpy.matmul.norms", "numpy.loop.norms", "torch.vmap.norms"


def curve(*sizes):
    return tuple(MeasuredPoint(n, 1.0, 0.0, None) for n in sizes)


def entry(curves, machine="desk", problem=LINEAR, **about):
    return WisdomEntry(machine, Case(problem, "norms", 1, **about).coordinates.at(0), curves)


def test_within_the_sizes_of_a_curve_nothing_is_beyond():
    assert [beyond(curve(10, 1000), n) for n in (10, 77, 1000)] == [1.0, 1.0, 1.0]
    assert beyond(curve(10, 1000), 5) == 2.0
    assert beyond(curve(10, 1000), 4000) == 4.0


def test_the_gap_is_that_of_the_second_nearest_kernel():
    measured = entry({A: curve(10, 1000), B: curve(10, 100), C: curve(10)})
    assert gap(measured, 1000, (A, B, C)) == 10.0
    assert gap(measured, 1000, (C, B)) == 100.0  # whatever their order
    assert gap(measured, 10, (A, B)) == 1.0
    assert gap(measured, 10, (A,)) == inf
    assert gap(measured, 10, ()) == inf


def test_what_was_measured_about_there_is_preferred_to_what_is_trusted_more():
    small = Known("a race", entry({A: curve(10, 20), B: curve(20, 40)}))
    large = Known("the shipped table", entry({A: curve(10, 10**6), B: curve(10, 10**6)}))
    sources = [(small, (A, B)), (large, (A, B))]
    assert preferred(sources, 20) is not large
    assert preferred(sources, 20).source == "a race"
    assert preferred(sources, 40).source == "a race"  # the second nearest ends at half of it: near enough
    far = preferred(sources, 41)
    assert (far.source, far.entry) == ("the shipped table", large.entry)
    assert far.passed_over == ("a race was measured at n = 10 to 40",)
    assert preferred(sources[:1], 10**9) is small


def test_one_kernel_alone_was_compared_with_nothing():
    alone, same = Known("a race", entry({A: curve(10)})), Known("a file", entry({A: curve(10), B: curve(10)}))
    found = preferred([(alone, (A,)), (same, (A, B))], 10)
    assert found.source == "a file"
    assert found.passed_over == (f"a race has one kernel alone, {A}, compared with nothing",)
    assert span([10, 10]) == "10"
    assert span([30, 10, 20]) == "10 to 30"


def test_of_near_entries_the_one_that_is_nearest_in_kind_answers():
    both = {A: curve(10, 100), B: curve(10, 100)}
    case = Case(LINEAR, "norms", 50, threads=2, features=4)
    table = (entry(both, threads=1, features=4), entry(both, threads=2, features=8), entry(both, threads=2, features=4))
    assert nearest_entry(table, case, "desk") is table[2]
    assert nearest_entry(table[:2], case, None) is table[0]  # both are a factor of 2 away: the first
    assert nearest_entry((), case, "desk") is None
    assert nearest_entry((entry(both, dtype="float32"),), case, "desk") is None
    lone = (entry(both, "lap"), entry(both, problem=HuberRegression()))
    assert nearest_entry(lone, case, "desk") is lone[0]
    # Nearer in kind, but measured at a tenth of the size.
    far = {A: curve(1, 5), B: curve(1, 5)}
    assert nearest_entry((entry(far, threads=2, features=4), table[0]), case, "desk") is table[0]
    # At half of it, which is near enough.
    half = entry({A: curve(1, 25), B: curve(1, 25)}, threads=2, features=4)
    assert nearest_entry((half, table[0]), case, "desk") is half
    here = (entry(both, "lap"), entry(both, "desk"))
    assert nearest_entry(here, case, "desk") is here[1]
    assert nearest_entry(here, case, None) is here[0]


@pytest.mark.parametrize(
    ("about", "machine", "wanted"),
    [
        ({}, "desk", (False, False, 0.0, False)),
        ({}, None, (False, False, 0.0, False)),
        ({}, "lap", (True, False, 0.0, False)),
        ({"threads": 4}, "desk", (False, False, log(4), False)),
        ({"features": 3}, "desk", (False, False, log(3), False)),
        ({"threads": 4, "features": 3}, "desk", (False, False, log(12), False)),
        ({"layout": "F"}, "desk", (False, False, 0.0, True)),
        ({"problem": LinearRegression(l2=1.0)}, "desk", (False, True, 0.0, False)),
    ],
)
def test_the_distance_of_an_entry_names_what_differs_in_order(about, machine, wanted):
    found = entry({}, **about).distance(Case(LINEAR, "norms", 7), machine)
    assert found[:2] + found[3:] == wanted[:2] + wanted[3:]
    assert found[2] == pytest.approx(wanted[2], rel=1e-12)
    back = entry({}).distance(Case(about.pop("problem", LINEAR), "norms", 7, **about), machine)
    assert back[2] == pytest.approx(wanted[2], rel=1e-12)
