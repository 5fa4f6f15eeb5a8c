"""Which way others are compared with: the one that a person names, else a usual one that is nearly everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gradkernels.bench.report.pictures.measured import TimedCase
from gradkernels.bench.run.ranking import NAMED_WAYS
from gradkernels.key import Key, matching
from gradkernels.names import plural


def way_of(kernel: str) -> str:
    """Return the way of a kernel without the `+` of what is composed: one way for every quantity."""
    return Key.parse(kernel).plain_way


def kernel_of(way: str, case: TimedCase) -> str:
    """Return the kernel of a way that has a time on a case; empty where there is none."""
    return next((kernel for kernel in case.rows if way_of(kernel) == way), "")


def chosen_baseline(named: str | None, cases: Sequence[TimedCase]) -> str:
    """Return the way to compare with.

    Args:
        named: A way, or a pattern that means one, as a person wrote it; None for the usual.
        cases: Those that are drawn.

    Raises:
        ValueError: It means no way that has a time, or several.
    """
    found = Counter(way_of(kernel) for case in cases for kernel in case.rows)
    if named is None:
        # Of ways that are on equally many cases a usual one comes first, then the one that was measured first.
        usual = list(NAMED_WAYS.values())[1:]
        return max(found, key=lambda way: (found[way], way in usual, -usual.index(way) if way in usual else 0))
    meant = {way_of(key) for key in matching([named], [kernel for case in cases for kernel in case.rows])}
    if len(meant) > 1:
        raise ValueError(f"--baseline {named} means {len(meant)} {plural('way')}: {', '.join(sorted(meant))}; name one")
    return meant.pop()
