"""Which combinations of a test's parameters are tried: all with --long, else few in which every value occurs.

A matrix is every combination of values that a test can be given: each kernel with each problem, dtype and layout. Most
faults are of one value, or of two that belong together, whatever else stands beside them. So the usual run takes a
subset, by a rule and without chance:

1. each value of each parameter occurs in it, or what a test names instead as what has to occur: pairs, for instance;
2. so do the combinations that are named as `always`, such as those that a fault has been of;
3. of the combinations that add as many values as any, one is taken whose pairs have occurred the least, the first of
   those: so the values beside a value take turns.

What a test asserts is asserted all the same, of fewer combinations. The last line of a run says of how many.

Where a test computes many things of one model, `in_turn` is the same rule inside of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import Any
from zlib import crc32

import pytest

Combination = tuple[Any, ...]

# Whether all are taken, as conftest.py reads from the command line.
WHOLE = False


def covering(
    rows: Sequence[Combination],
    occurring: Callable[..., Iterable[Any]] | None = None,
    always: Callable[..., bool] | None = None,
) -> list[Combination]:
    """Choose combinations in which everything occurs that has to; in the order in which they are given.

    Args:
        rows: Every combination.
        occurring: Returns for the values of a combination what has to occur; each of the values if None.
        always: Tells for the values of a combination whether it is taken in any case.
    """
    pairs = [list(combinations(enumerate(map(named, row)), 2)) for row in rows]
    wanted = [set(enumerate(map(named, occurring(*row) if occurring else row))) for row in rows]
    chosen = {place for place, row in enumerate(rows) if always and always(*row)}
    left = set().union(*wanted).difference(*(wanted[place] for place in chosen))
    uses = Counter(pair for place in chosen for pair in pairs[place])
    while left:
        added = [len(one & left) for one in wanted]
        most = max(added)
        best = [place for place, count in enumerate(added) if count == most]
        taken = min(best, key=lambda place: sum(uses[pair] for pair in pairs[place]))
        chosen.add(taken)
        uses.update(pairs[taken])
        left -= wanted[taken]
    return [rows[place] for place in sorted(chosen)]


def in_turn(values: Sequence[Any], parts: int, number: int | None = None) -> list[Any]:
    """Return one part of several things to compute, the next at each number; all of them with --long.

    Args:
        values: What there is to compute.
        parts: One in so many is taken, at each number another.
        number: Follows from the name of the test that runs if None, so that it is the same in every run.
    """
    if WHOLE:
        return list(values)
    number = crc32(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0].encode()) if number is None else number
    return list(values)[number % parts :: parts]


def named(value: Any) -> str:
    """Return the key or name of a value, else its text."""
    names = (getattr(value, attribute, None) for attribute in ("key", "name", "__name__"))
    return str(next(filter(None, names), value))


def matrix(names: str, *axes: Iterable[Any], rows=(), occurring=None, always=None, ids=named):
    """Parametrize a test by combinations: all of them with --long, else those that `covering` chooses.

    Args:
        names: Of the parameters, separated by commas.
        axes: The values of each, of which every combination is meant.
        rows: Or the combinations themselves, where not every one makes sense.
        occurring: As for `covering`.
        always: As for `covering`.
        ids: Makes the name of a value.
    """
    return pytest.mark.matrix(names, list(rows) or list(product(*axes)), occurring, always, ids)


def parametrize(metafunc: pytest.Metafunc, whole: bool) -> tuple[int, int]:
    """Give a test the combinations of its matrices; return how many are taken, and of how many."""
    taken = every = 1
    marks = list(metafunc.definition.iter_markers("matrix"))
    for mark in marks:
        names, rows, occurring, always, ids = mark.args
        chosen = rows if whole else covering(rows, occurring, always)
        metafunc.parametrize(names, [pytest.param(*row, id="-".join(map(ids, row))) for row in chosen])
        taken, every = taken * len(chosen), every * len(rows)
    return (taken, every) if marks else (0, 0)
