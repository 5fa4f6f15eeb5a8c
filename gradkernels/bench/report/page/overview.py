"""The winners laid out as tables: a block for what shares everything but the quantity, a row for each quantity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gradkernels.bench.report.page.calls import winners_in_words
from gradkernels.bench.report.page.families import Family
from gradkernels.bench.report.page.proofs import ProofRow, proof_rows, refusals
from gradkernels.bench.report.ranking_table import case_title, cells, growths
from gradkernels.bench.run.ranking import CaseRanking
from gradkernels.key import Key


@dataclass(frozen=True)
class Cell:
    """The winner of one case, in the words of `gradkernels fastest`.

    Attributes:
        n: Number of samples.
        way: The winner; empty where nothing is proven.
        plain_way: What its colour goes by.
        time: Of a call.
        limit: The share of the memory limit.
        lead: How many times as long the runner-up takes, with bounds over passes; `alone` without one.
        runner_up: The second; `-` without one.
        calls: Who wins by the number of calls.
    """

    n: int
    way: str
    plain_way: str
    time: str
    limit: str
    lead: str
    runner_up: str
    calls: str


@dataclass(frozen=True)
class QuantityRow:
    """The winners of one family.

    Attributes:
        family: Its position among all families.
        quantity: Name of the quantity.
        cells: For each n of the block, None where the family lacks it.
        notes: Sentences on how costs grow and where winners change.
    """

    family: int
    quantity: str
    cells: tuple[Cell | None, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FamilyBlock:
    """Families that differ in the quantity alone.

    Attributes:
        title: What they share.
        sizes: Every n of any of them.
        rows: One for each.
        proofs: How close each way's proofs came to their tolerance.
        refusals: Why kernels were not timed.
    """

    title: str
    sizes: tuple[int, ...]
    rows: tuple[QuantityRow, ...]
    proofs: tuple[ProofRow, ...]
    refusals: tuple[str, ...]


@dataclass(frozen=True)
class WinCount:
    """How often a way wins.

    Attributes:
        way: The way, without the `+` of what is composed.
        first: Cases in which it is the fastest.
        surely: Those of them in which it is surely ahead of every kernel that took turns with it.
    """

    way: str
    first: int
    surely: int


def family_blocks(families: Sequence[Family]) -> list[FamilyBlock]:
    """Return the blocks, in order of the families."""
    several = len({family.machine for family in families}) > 1
    placed: dict[str, list[int]] = {}
    for number, family in enumerate(families):
        placed.setdefault(family_title(family, several).partition(" of ")[2], []).append(number)
    return [_block(name, [(number, families[number]) for number in numbers]) for name, numbers in placed.items()]


def family_title(family: Family, several_machines: bool) -> str:
    """Return `gradient of linear, 1 feature, float64, 1 thread`, and on which machine where there are several."""
    name = case_title(family.rankings[0].case)
    return f"{name}, on {family.machine}" if several_machines else name


def _block(name: str, group: Sequence[tuple[int, Family]]) -> FamilyBlock:
    sizes = tuple(sorted({ranking.case.n for _, family in group for ranking in family.rankings}))
    rows = tuple(_row(number, family, sizes) for number, family in group)
    own = [family for _, family in group]
    return FamilyBlock(name, sizes, rows, tuple(proof_rows(own)), tuple(refusals(own)))


def _row(number: int, family: Family, sizes: Sequence[int]) -> QuantityRow:
    by_n = {ranking.case.n: _cell(ranking, family) for ranking in family.rankings}
    notes = (*map(str, family.crossings), *growths(family.rankings))
    return QuantityRow(number, family.case.quantity, tuple(by_n.get(n) for n in sizes), notes)


def _cell(ranking: CaseRanking, family: Family) -> Cell:
    n = ranking.case.n
    if not ranking.kernels:
        return Cell(n, "", "", "none proven", "", "", "", "")
    _, way, time, limit, lead, runner_up, *_ = cells(ranking)
    plain_way = Key.parse(ranking.kernels[0].kernel).plain_way
    return Cell(n, way, plain_way, time, limit, lead, runner_up, winners_in_words(family.calls[n]))


def win_counts(families: Sequence[Family]) -> list[WinCount]:
    """Return how often each way wins, the most frequent winner first."""
    first: Counter[str] = Counter()
    surely: Counter[str] = Counter()
    for family in families:
        for ranking in family.rankings:
            for ranked in ranking.kernels[:1]:
                way = Key.parse(ranked.kernel).plain_way
                first[way] += 1
                behind = [other.behind for other in ranking.kernels if other.behind is not None]
                surely[way] += bool(behind) and all(ratio.low > 1 for ratio in behind)
    return [WinCount(way, count, surely[way]) for way, count in first.most_common()]
