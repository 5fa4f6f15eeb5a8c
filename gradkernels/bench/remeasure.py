"""The command that measures both revisions of a comparison again, side by side."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from gradkernels.bench.comparison import Comparison, Row
from gradkernels.bench.entrants import OUT
from gradkernels.wisdom import CONVERT

DIRTY = "+"
_MOST_WAYS = 6
_USUAL = {"features": 1, "dtype": "float64", "layout": "C", "device": "cpu", "threads": 1}


def advice(comparison: Comparison) -> str:
    """`gradkernels ab 0123 4567 --kernel ...`, or why there is no such command."""
    for source in (comparison.before, comparison.after):
        if len(source.commits) != 1 or not source.commits[0]:
            return f"no command can do so here, because the rows of {source.name} do not name one commit"
    before, after = comparison.before.commits[0], comparison.after.commits[0]
    if before.endswith(DIRTY):
        return f"no command can do so here, because {comparison.before.name} was measured with uncommitted changes"
    if before == after:
        return f"both are of commit {before}, so only more passes can tell more"
    rows = [row for row in comparison.compared if not row.kernel.startswith(CONVERT)]
    asked = _options([row for row in rows if row.verdict != "same"] or rows)
    return shlex.join(["gradkernels", "ab", before, "." if after.endswith(DIRTY) else after, *asked])


def _options(rows: Sequence[Row]) -> Iterator[str]:
    """What to measure again: the kernels and cases in question."""
    problems = {row.problem.partition("/")[0] for row in rows}
    ways = dict.fromkeys(row.kernel.removesuffix(OUT).removesuffix(f".{row.quantity}") for row in rows)
    for way in ways if len(ways) <= _MOST_WAYS else ():
        yield from ("--kernel", way)
    if len(problems) == 1:
        yield from _problem(*problems)
    yield from ("--quantity", ",".join(dict.fromkeys(row.quantity for row in rows)))
    yield from ("--sizes", ",".join(map(str, sorted({row.n for row in rows}))))
    for name, usual in _USUAL.items():
        values = {getattr(row, name) for row in rows}
        if len(values) == 1 and values != {usual}:
            yield from (f"--{name}", str(*values))


def _problem(column: str) -> Iterator[str]:
    name, _, settings = column.partition("(")
    if name != "linear":
        yield from ("--problem", name)
    if "fit_intercept=False" in settings:
        yield "--no-intercept"
