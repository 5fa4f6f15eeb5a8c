"""How close each proof came to its tolerance, and what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradkernels.bench.report.page.families import Family
from gradkernels.bench.report.ranking_table import why_not
from gradkernels.bench.report.units import share
from gradkernels.key import Key


@dataclass(frozen=True)
class ProofRow:
    """A way's proofs of one problem.

    Attributes:
        way: The way.
        cells: For each quantity the worst error over its tolerance and at which n, in words; why it has none; or
            empty.
    """

    way: str
    cells: tuple[str, ...]


def proof_rows(group: Sequence[Family]) -> list[ProofRow]:
    """Return a row for each way, over families that differ in the quantity alone, in order of the ways' names."""
    cells: dict[str, dict[int, str]] = {}
    for number, family in enumerate(group):
        for kernel, points in family.lines.items():
            worst = max(points, key=lambda point: point.proof)
            where = f" at n = {worst.n:,}" if worst.proof and len(points) > 1 else ""
            cells.setdefault(Key.parse(kernel).plain_way, {})[number] = f"{_told(worst.proof)}{where}"
        for ranking in family.rankings:
            for kernel, why in ranking.absent.items():
                cells.setdefault(Key.parse(kernel).plain_way, {}).setdefault(number, why.partition(":")[0])
    return [ProofRow(way, tuple(cells[way].get(number, "") for number in range(len(group)))) for way in sorted(cells)]


def _told(proof: float) -> str:
    return share(proof) if proof else "exact"


def refusals(group: Sequence[Family]) -> list[str]:
    """Return a sentence for each reason that kept kernels from being timed."""
    return why_not(ranking for family in group for ranking in family.rankings)
