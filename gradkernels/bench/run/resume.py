"""Go on with a results file only if it was begun with the same plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gradkernels.bench.run.plan import Plan
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.record import Record

BY_CASE = "case"
"""In the names of runs of one case each, as `a1b2c3d4e5f6-case`: a job of an executor."""

_OF_ONE_CASE = re.compile(rf".+-{BY_CASE}(-.+)?", re.ASCII)


def require_same_plan(plans: Sequence[Plan], path: Path, records: Sequence[Record]) -> None:
    """Refuse to go on with a file that was begun with another plan.

    A forgotten `--kernel` or `--sizes` would otherwise measure everything into the file.

    Args:
        plans: Of this run.
        path: The file, for the message.
        records: What it holds.

    Raises:
        ValueError: Names something that one of the two has and the other has not.
    """
    held = {(row.kernel, row.case) for row in records if Key.parse(row.kernel).competes}
    planned = [_kernels_and_cases(plan) for plan in plans]
    unasked = held.difference(*planned)
    # Before the second pass of a plan the first may have been cut short, and what is missing says nothing.
    # Nor do whole cases that are missing, where an executor brings them one by one.
    dealt = {row.case for row in records if _OF_ONE_CASE.fullmatch(row.run)}
    begun = {(row.kernel, row.case) for row in records if row.pass_ > 1 and row.case not in dealt}
    unheld = {one for own in planned if own & begun for one in own - held}
    unheld |= {(kernel, case) for own in planned for kernel, case in own - held if case in dealt}
    for kernel, case in sorted(unasked | unheld):
        where = case.described(" ")
        fault = "has rows of" if (kernel, case) in unasked else "has no row of"
        raise ValueError(
            f"--resume: {path} {fault} {kernel} ({where}), unlike what these options ask for; "
            "give the options that the run began with, or name another --out"
        )


def _kernels_and_cases(plan: Plan) -> set[tuple[str, Coordinates]]:
    return {(kernel.key, plan.coordinates(case)) for case in plan.cases for kernel in plan.kernels_of(case)}
