"""The ranking as tables: for a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich import box
from rich.table import Table

from gradkernels.bench.report.comparison_table import seconds
from gradkernels.bench.run.ranking import NAMED_WAYS, CaseRanking, RankedKernel
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.names import counted
from gradkernels.record import CASE, line

WINNERS_HEADER = (
    "n",
    "winner",
    "time",
    "of memory limit",
    "ahead of the runner-up",
    *(f"x {name}" for name in NAMED_WAYS),
)
APART = "not in turns"
"""In place of a ratio of times that were taken in different processes."""


def title(ranking: CaseRanking) -> str:
    """Return `gradient of linear, 1 feature, float64, 1 thread`: what the rows of a table share."""
    return case_title(ranking.case)


def case_title(row: Coordinates) -> str:
    """Return what the rows of a table share that have the coordinates of `row` but for n."""
    parts = [
        f"{row.quantity} of {row.problem}",
        counted(row.features, "feature"),
        row.dtype,
        counted(row.threads, "thread"),
    ]
    parts += [text for text in (row.layout, row.device) if text not in ("C", "cpu")]
    return ", ".join(parts)


def grouped(rankings: Iterable[CaseRanking]) -> list[tuple[str, list[CaseRanking]]]:
    """Group rankings by title, and by machine where there are several."""
    rankings = list(rankings)
    several = len({ranking.machine for ranking in rankings}) > 1

    def name(ranking: CaseRanking) -> str:
        return f"{title(ranking)}, on {ranking.machine}" if several else title(ranking)

    return [(told, list(group)) for told, group in groupby(rankings, key=name)]


def cells(ranking: CaseRanking) -> list[str]:
    """Return one row of the table of winners."""
    if not ranking.kernels:
        return [f"{ranking.case.n:,}", "none proven", *[""] * (len(WINNERS_HEADER) - 2)]
    winner, *others = ranking.kernels
    ahead = _ahead(winner, others[0]) if others else "alone"
    limit = "-" if winner.of_limit is None else share(winner.of_limit)
    return [f"{ranking.case.n:,}", _way(winner.kernel), seconds(winner.seconds), limit, ahead, *_named(ranking)]


def share(of_limit: float) -> str:
    """Return how close a time is to the limit, `61%`; small numbers by two digits, `0.37%`."""
    percentage = 100 * of_limit
    return f"{percentage:.0f}%" if percentage >= 10 else f"{percentage:.2g}%" if percentage >= 0.01 else "under 0.01%"


def _ahead(winner: RankedKernel, other: RankedKernel) -> str:
    """Return `1.52 [1.47, 1.58] jax.vmap`: the factor and its bounds, where passes give any."""
    behind = other.behind
    if not other.in_turns:
        return f"{APART}: {_way(other.kernel)}"
    if behind is None:
        return f"{other.seconds / winner.seconds:.2f} {_way(other.kernel)}"
    tie = "" if behind.low > 1 else " (a tie)"
    # Two or three passes bound almost nothing, and a number of twenty digits says it badly.
    high = f"{behind.high:.2f}" if behind.high < 100 else "over 100"
    return f"{behind.ratio:.2f} [{behind.low:.2f}, {high}] {_way(other.kernel)}{tie}"


def _named(ranking: CaseRanking) -> list[str]:
    named = []
    for way in NAMED_WAYS.values():
        ranked = ranking.of_way(way)
        if ranked is ranking.kernels[0]:
            named.append("wins")
        else:
            named.append(_times(ranked, ranking.kernels[0]) if ranked else _absence(ranking, way))
    return named


def _times(ranked: RankedKernel, winner: RankedKernel) -> str:
    """Return how many times as long it takes: three digits, and no exponent for what a person reads."""
    if not ranked.in_turns:
        return APART
    ratio = ranked.seconds / winner.seconds
    return f"{ratio:.3g}" if ratio < 100 else f"{ratio:,.0f}"


def _absence(ranking: CaseRanking, way: str) -> str:
    reasons = (reason for kernel, reason in ranking.absent.items() if Key.parse(kernel).plain_way == way)
    return next(reasons, "-").partition(":")[0]


def _way(kernel: str) -> str:
    return Key.parse(kernel).way


def terminal(name: str, rankings: Sequence[CaseRanking]) -> Table:
    """Return the table of winners for a terminal."""
    shown = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in WINNERS_HEADER:
        shown.add_column(column, justify="left" if column in ("winner", WINNERS_HEADER[4]) else "right")
    for ranking in rankings:
        shown.add_row(*(cell.replace("[", r"\[") for cell in cells(ranking)))
    return shown


def growths(rankings: Iterable[CaseRanking]) -> list[str]:
    """Return a sentence per kernel that wins anywhere: the exponent of its cost against n."""
    winners = {one.kernels[0].kernel: one.kernels[0].growth for one in rankings if one.kernels}
    return [f"cost of {_way(kernel)} grows as {grown}" for kernel, grown in winners.items() if grown is not None]


def markdown(rankings: Iterable[CaseRanking]) -> str:
    """Return every table of winners in Markdown."""
    parts = []
    for name, group in grouped(rankings):
        rule = ["--:", "---", "--:", "--:", "---", *["--:"] * len(NAMED_WAYS)]
        rows = (WINNERS_HEADER, rule, *map(cells, group))
        parts.append("\n".join([f"**{name}**", "", *("| " + " | ".join(row) + " |" for row in rows)]))
        if sentences := growths(group):
            parts.append("\n".join(f"- {sentence}" for sentence in sentences))
    return "\n\n".join(parts) + "\n"


_LIMIT = ("limit_seconds", "of_limit", "exponent", "exponent_low", "exponent_high")
LONG_HEADER = ("machine", *CASE, "place", "kernel", "seconds", "ratio", "low", "high", "absent", *_LIMIT)


def long_rows(rankings: Iterable[CaseRanking]) -> list[tuple[object, ...]]:
    """Return a row per case and kernel, for machines: place and distance, or why it has none."""
    rows: list[tuple[object, ...]] = []
    for ranking in rankings:
        case = (ranking.machine, *(getattr(ranking.case, name) for name in CASE))
        for number, ranked in enumerate(ranking.kernels, 1):
            behind = ranked.behind or Ratio(1.0, 1.0, 1.0, 0)
            distance = (behind.ratio, behind.low, behind.high) if ranked.behind or number == 1 else (None, None, None)
            rows.append((*case, number, ranked.kernel, ranked.seconds, *distance, None, *_limit(ranked)))
        unknown = [None] * len(_LIMIT)
        rows += [(*case, None, kernel, *[None] * 4, why, *unknown) for kernel, why in ranking.absent.items()]
    return rows


def _limit(ranked: RankedKernel) -> tuple[float | None, ...]:
    """Return the values of `_LIMIT`; ends of an interval that a single pass cannot give are not known."""
    grown = ranked.growth
    if grown is None:
        return (ranked.limit_seconds, ranked.of_limit, None, None, None)
    ends = (grown.low, grown.high) if math.isfinite(grown.high - grown.low) else (None, None)
    return (ranked.limit_seconds, ranked.of_limit, grown.exponent, *ends)


def as_csv(rankings: Iterable[CaseRanking]) -> str:
    """Return `long_rows` as CSV."""
    return line(LONG_HEADER) + "".join(map(line, long_rows(rankings)))


def as_json(rankings: Iterable[CaseRanking]) -> str:
    """Return `long_rows` as a JSON list of objects; what is not known is null."""
    return json.dumps([dict(zip(LONG_HEADER, row, strict=True)) for row in long_rows(rankings)], indent=1) + "\n"


def why_not(rankings: Iterable[CaseRanking]) -> list[str]:
    """Return a line per reason: the kernels that it kept from being timed, and at which sizes."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for ranking in rankings:
        for kernel, why in ranking.absent.items():
            sizes.setdefault((kernel, _general(why)), []).append(ranking.case.n)
    return [f"{kernel} at n = {', '.join(f'{n:,}' for n in ns)}: {why}" for (kernel, why), ns in sizes.items()]


def _general(why: str) -> str:
    """Return a reason without the figures of one size."""
    return why.partition(":")[0] + ":" + why.partition(":")[2].partition(": a call would")[0]
