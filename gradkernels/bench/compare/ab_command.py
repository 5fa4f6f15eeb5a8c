"""The commands that measure both revisions of a comparison again, side by side."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby

from gradkernels.bench.compare.comparison import Comparison, Row
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS
from gradkernels.bench.results.functions import FUNCTION
from gradkernels.coordinates import USUAL
from gradkernels.key import Key
from gradkernels.names import counted, family_of
from gradkernels.problems import REGRESSIONS

DIRTY = "+"
_MOST_COMMANDS = 4
_NO_KERNELS = "no command can do so here, because conversions between libraries are no kernels"
_NO_TESTS = "no command can do so here, because functions that were raced are in no revision"
_NO_INTERCEPT = "(fit_intercept=False)"
_FACTORY = "MODULE:FACTORY"
_VALUES = re.compile(r"\([^()]*\)$")
"""What the name of a test has behind it where another of its parameters is n."""


def advice(comparison: Comparison) -> Iterator[str]:
    """Yield `gradkernels ab 0123 4567 --kernel ...`, one for each setting that rows share, or why there is none."""
    rows = [row for row in comparison.compared if _is_kernel(row)]
    tests = _tests(comparison.compared)
    only = _NO_TESTS if any(Key.parse(row.kernel).backend == FUNCTION for row in comparison.compared) else _NO_KERNELS
    if reason := _why_not(comparison) or ("" if rows or tests else only):
        yield reason
        return
    before, after = comparison.before.commits[0], comparison.after.commits[0]
    command = ["gradkernels", "ab", before, "." if after.endswith(DIRTY) else after]
    delta = () if comparison.delta == DEFAULT_THRESHOLDS.delta else ("--delta", f"{100 * comparison.delta:g}%")
    if tests:
        yield shlex.join([*command, *(word for test in tests for word in ("--tests", test)), *delta])
    asked = sorted([row for row in rows if row.verdict != "same"] or rows, key=_setting)
    groups = [list(group) for _, group in groupby(asked, key=_setting)]
    for group in groups[:_MOST_COMMANDS]:
        yield shlex.join([*command, *_options(group), *delta]) + _remark(group[0].case.problem)
    if left := groups[_MOST_COMMANDS:]:
        yield f"likewise for the other {counted(len(left), 'combination')} of {', '.join(('problem', *USUAL))}"


def _is_kernel(row: Row) -> bool:
    key = Key.parse(row.kernel)
    return key.kind != "conversion" and key.backend != FUNCTION


def _tests(rows: Sequence[Row]) -> list[str]:
    """Return the tests for pytest-benchmark among rows, as pytest calls them; of many of them the files."""
    named = [row.case.problem.partition(":")[2] for row in rows if Key.parse(row.kernel).backend == FUNCTION]
    tests = dict.fromkeys(_VALUES.sub("", name) for name in named if "::" in name)
    return [*tests] if len(tests) <= _MOST_COMMANDS else [*dict.fromkeys(test.partition("::")[0] for test in tests)]


def _why_not(comparison: Comparison) -> str:
    """Return why no command can measure both sides again; empty if one can."""
    for source in (comparison.before, comparison.after):
        if len(source.commits) != 1 or not source.commits[0]:
            return f"no command can do so here, because the rows of {source.name} do not name one commit"
    before, after = comparison.before.commits[0], comparison.after.commits[0]
    if before.endswith(DIRTY):
        return f"no command can do so here, because {comparison.before.name} was measured with uncommitted changes"
    return f"both are of commit {before}, so only more passes can tell more" if before == after else ""


def _setting(row: Row) -> tuple[str | int, ...]:
    return (row.case.problem, *(getattr(row.case, name) for name in USUAL))


def _options(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the options that choose the kernels and cases of rows that share their setting."""
    for way in dict.fromkeys(Key.parse(row.kernel).way for row in rows):
        yield from ("--kernel", way)
    yield from _problem(rows[0].case.problem)
    yield from ("--quantity", ",".join(dict.fromkeys(row.case.quantity for row in rows)))
    yield from ("--sizes", ",".join(map(str, sorted({row.case.n for row in rows}))))
    for name, value in rows[0].case.unusual().items():
        yield from (f"--{name}", str(value))


def _problem(column: str) -> Iterator[str]:
    name = column.partition("/")[0].removesuffix(_NO_INTERCEPT)
    if family_of(name) not in REGRESSIONS:
        yield from ("--problem", _FACTORY)
    elif name != "linear":
        yield from ("--problem", name)
    if column.partition("/")[0].endswith(_NO_INTERCEPT):
        yield "--no-intercept"


def _remark(column: str) -> str:
    """Return what the command cannot say of a problem."""
    name, _, data = column.partition("/")
    remarks = [f"{_FACTORY} being a function that returns {name}"] if _FACTORY in _problem(column) else []
    remarks += [f"which draws its data instead of reading {data}"] if data else []
    return "".join(f", {remark}" for remark in remarks)
