"""The usual run takes few combinations of each matrix, and every value of it."""

from itertools import product

import matrices
from matrices import covering, in_turn, matrix

pytest_plugins = ["pytester"]

AXES = [("a", "b"), tuple(range(7)), ("x", "y", "z")]


def test_each_value_occurs_in_no_more_combinations_than_the_longest_parameter_has_values():
    rows = list(product(*AXES))
    chosen = covering(rows)
    assert len(chosen) == 7
    assert [{row[place] for row in chosen} for place in range(3)] == [set(axis) for axis in AXES]
    assert chosen == covering(rows)
    assert chosen == sorted(chosen, key=rows.index)


def test_what_stands_beside_a_value_takes_turns():
    chosen = covering(list(product(range(12), "ab", "xy")))
    assert {row[1:] for row in chosen} == set(product("ab", "xy"))


def test_pairs_can_be_asked_for():
    rows = list(product("abc", "xy", range(4)))
    chosen = covering(rows, lambda letter, other, number: (letter + other, number))
    assert {row[:2] for row in chosen} == set(product("abc", "xy"))
    assert {row[2] for row in chosen} == set(range(4))
    assert len(chosen) == 6


def test_what_a_fault_has_been_of_is_always_taken():
    chosen = covering(list(product("abc", "xy")), always=lambda *row: row in (("a", "y"), ("b", "x")))
    assert {("a", "y"), ("b", "x")} < set(chosen)
    assert len(chosen) == 3


def test_combinations_that_make_no_sense_are_not_invented():
    assert covering([("a", 1), ("a", 2), ("b", 2), ("c", 3)]) == [("a", 1), ("b", 2), ("c", 3)]
    assert covering([]) == []


def test_parts_of_what_a_test_computes_take_turns(monkeypatch):
    monkeypatch.setattr(matrices, "WHOLE", False)
    assert [in_turn("abcde", 2, number) for number in range(3)] == [["a", "c", "e"], ["b", "d"], ["a", "c", "e"]]
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_a.py::test_b[c d] (call)")
    of_call = in_turn(range(100), 50)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_a.py::test_b[c e] (call)")
    assert in_turn(range(100), 50) != of_call
    monkeypatch.setattr(matrices, "WHOLE", True)
    assert in_turn("abcde", 2) == list("abcde")


@matrix("letter,number", "ab", (1, 2, 3))
def test_a_matrix_gives_its_values_by_name(letter, number, request):
    assert request.node.name.endswith(f"[{letter}-{number}]")
    assert (letter in "ab", number in (1, 2, 3)) == (True, True)


def test_a_run_takes_all_of_them_with_long_and_says_how_many_it_leaves(pytester, request):
    folder = request.path.parent
    conftest = (folder / "conftest.py").read_text().replace("Path(__file__)", f"Path({str(folder / 'x')!r})")
    pytester.makeconftest(conftest)
    pytester.makepyfile("from matrices import matrix\n@matrix('a,b', range(4), range(3))\ndef test_it(a, b): pass\n")
    pytester.syspathinsert(folder)
    few = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    few.assert_outcomes(passed=4)
    few.stdout.fnmatch_lines(["matrices: 4 of 12 combinations (tests/matrices.py); all: --long"])
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "--long").assert_outcomes(passed=12)
