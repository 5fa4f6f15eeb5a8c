"""The ranking as tables: for a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.text import Text

from gradkernels.bench.report.terminal.columns import Column, markdown_table
from gradkernels.bench.report.terminal.styles import UNDECIDED, WINNER, WRONG_STYLE
from gradkernels.bench.report.units import about, confidence, factor, interval, seconds, share
from gradkernels.bench.run.budget import TOO_SLOW
from gradkernels.bench.run.ranking import NAMED_WAYS, CaseRanking, RankedKernel
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.bench.stats.scaling import Growth
from gradkernels.bench.stats.verdict import DELTA, standing
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.names import counted
from gradkernels.record import CASE, Status, line

TIMED_APART = "not in turns"
"""In place of a ratio of times that were taken in different processes."""

NAMED = tuple(f"x {name}" for name in NAMED_WAYS)
_LEAD = 4  # its position among the columns


def case_title(case: Coordinates) -> str:
    """Return `gradient of linear, 1 feature, float64, 1 thread`: what the rows of a table share."""
    parts = [
        f"{case.quantity} of {case.problem}",
        counted(case.features, "feature"),
        case.dtype,
        counted(case.threads, "thread"),
    ]
    parts += [text for text in (case.layout, case.device) if text not in ("C", "cpu")]
    return ", ".join(parts)


def grouped(rankings: Iterable[CaseRanking]) -> list[tuple[str, list[CaseRanking]]]:
    """Group rankings by title, and by machine where there are several."""
    rankings = list(rankings)
    several = len({ranking.machine for ranking in rankings}) > 1

    def name(ranking: CaseRanking) -> str:
        title = case_title(ranking.case)
        return f"{title}, on {ranking.machine}" if several else title

    return [(told, list(group)) for told, group in groupby(rankings, key=name)]


def winners_columns(rankings: Iterable[CaseRanking]) -> list[Column]:
    """Return the columns of the table of winners, the level of the intervals among them."""
    level = _level(rankings)
    lead = f"lead [{level}]" if level else "lead"
    first = [Column("n"), Column("winner", left=True), Column("time"), Column("of limit", rank=2)]
    named = [Column(name, rank=place) for place, name in enumerate(NAMED, 4)]
    return [*first, Column(lead, left=True, rank=1), Column("runner-up", left=True, rank=3), *named]


def _level(rankings: Iterable[CaseRanking]) -> str:
    """Return the level of the intervals of the leads; empty without any."""
    leads = [one.kernels[1].behind for one in rankings if len(one.kernels) > 1]
    passes = {behind.passes for behind in leads if behind is not None}
    return confidence(passes) if passes else ""


def cells(ranking: CaseRanking) -> list[str]:
    """Return one row of the table of winners."""
    return [cell.plain for cell in styled_cells(ranking)]


def styled_cells(ranking: CaseRanking) -> list[Text]:
    """Return one row of the table of winners, in color where a reader must not miss something."""
    n = Text(f"{ranking.case.n:,}")
    if not ranking.kernels:
        return [n, Text("none proven", WRONG_STYLE), *[Text("")] * (_LEAD + len(NAMED))]
    winner, *others = ranking.kernels
    limit = "-" if winner.of_limit is None else share(winner.of_limit)
    lead = _lead(winner, others[0]) if others else Text("alone")
    runner_up = _way(others[0].kernel) if others else "-"
    first = [n, Text(_way(winner.kernel), WINNER), Text(seconds(winner.seconds)), Text(limit), lead, Text(runner_up)]
    return [*first, *(Text(cell, WRONG_STYLE if cell == Status.wrong else "") for cell in _named(ranking))]


def _lead(winner: RankedKernel, other: RankedKernel) -> Text:
    """Return `1.52 [1.47, 1.58]`: the factor and its bounds, where passes give any, or that it is not known."""
    behind = other.behind
    if not other.in_turns:
        return Text(TIMED_APART, UNDECIDED)
    if behind is None:
        return Text(factor(other.seconds / winner.seconds))
    found = standing(behind)
    if found == "ahead":
        return Text(interval(behind))
    return Text(interval(behind, found), UNDECIDED if found == "undecided" else "")


def _named(ranking: CaseRanking) -> list[str]:
    named = []
    for way in NAMED_WAYS.values():
        ranked = ranking.of_way(way)
        if ranked is ranking.kernels[0]:
            named.append("wins")
        elif ranked is None:
            named.append(_absence(ranking, way))
        else:
            named.append(factor(ranked.seconds / ranking.kernels[0].seconds) if ranked.in_turns else TIMED_APART)
    return named


def _absence(ranking: CaseRanking, way: str) -> str:
    """Return why a way has no time in a word or two, `-` for one that was not asked."""
    reasons = (reason for kernel, reason in ranking.absent.items() if Key.parse(kernel).plain_way == way)
    status, _, why = next(reasons, "-").partition(": ")
    if status == Status.timeout:
        return "too slow" if why.startswith(TOO_SLOW) else "timed out"
    return status


def _way(kernel: str) -> str:
    return Key.parse(kernel).way


def growths(rankings: Iterable[CaseRanking]) -> list[str]:
    """Return a sentence per kernel that wins anywhere: its fixed cost, and how the rest grows with n."""
    winners = {one.kernels[0].kernel: one.kernels[0].growth for one in rankings if one.kernels}
    return [f"{_way(kernel)}: {_grown(grown)}" for kernel, grown in winners.items() if grown is not None]


def _grown(grown: Growth) -> str:
    if grown.fixed_seconds is None:
        return f"time grows as {grown}, fixed cost included"
    if grown.fixed_seconds == 0:
        return f"time grows as {grown}, with no fixed cost to be seen"
    return f"about {about(grown.fixed_seconds)} a call whatever n, and a part that grows as {grown}"


def legend(rankings: Sequence[CaseRanking], left_out: Sequence[str] = ()) -> list[str]:
    """Return what the headers of the tables of winners mean, a line for each that is not left out."""
    rows = [cells(ranking) for ranking in rankings]
    says = []
    if "of limit" not in left_out and any(row[3] not in ("-", "") for row in rows):
        says.append("of limit: what only moving the data takes here, over the winner's time")
    if any(len(one.kernels) > 1 for one in rankings):
        level = _level(rankings)
        bounds = f", and its {level} interval over passes" if level else ""
        says.append(f"lead: the runner-up's time over the winner's{bounds}")
    if any(row[_LEAD].startswith("undecided") for row in rows):
        says.append("undecided: it is not sure which of the two is faster")
    if any(row[_LEAD].startswith("tie") for row in rows):
        says.append(f"tie: neither is faster by more than {DELTA:.0%}")
    if shown := [name for name in NAMED if name not in left_out]:
        says.append(f"{', '.join(shown)}: how many times as long as the winner")
        if any("too slow" in row for row in rows):
            says.append("too slow: for the budget of the run")
    return says


def markdown(rankings: Iterable[CaseRanking]) -> str:
    """Return every table of winners in Markdown."""
    parts = []
    rankings = list(rankings)
    columns = winners_columns(rankings)
    for name, group in grouped(rankings):
        parts.append(f"**{name}**\n\n{markdown_table(columns, [*map(cells, group)])}")
        if sentences := growths(group):
            parts.append("\n".join(f"- {sentence}" for sentence in sentences))
    return "\n\n".join([*parts, "\n".join(f"- {sentence}" for sentence in legend(rankings))]) + "\n"


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
    together: dict[tuple[str, str], list[str]] = {}
    for (kernel, why), ns in sizes.items():
        together.setdefault((why, ", ".join(f"{n:,}" for n in ns)), []).append(kernel)
    return [f"{', '.join(names)} at n = {ns}: {why}" for (why, ns), names in together.items()]


def _general(why: str) -> str:
    """Return a reason without the figures of one size."""
    status, _, reason = why.partition(": ")
    general = reason.partition(": a call would")[0]
    return general if general == TOO_SLOW else f"{status}: {general}"
