"""The ranking that a table of wisdom knows, without anything being measured."""

from __future__ import annotations

from gradkernels.bench.run.ranking import CaseRanking, RankedKernel
from gradkernels.bench.stats.scaling import Growth, growth
from gradkernels.dispatch.wisdom import Wisdom, WisdomEntry
from gradkernels.key import Key


def known(table: Wisdom, calls: int | None = None) -> list[CaseRanking]:
    """Rank the kernels in a table of wisdom, which has no passes and therefore no bounds.

    Args:
        table: What was learned from records.
        calls: As for `weighed`.
    """
    return [_recalled(entry, n, calls) for entry in table for n in _sizes(entry)]


def _sizes(entry: WisdomEntry) -> list[int]:
    return sorted({point.n for key, points in entry.curves.items() if Key.parse(key).competes for point in points})


def _recalled(entry: WisdomEntry, n: int, calls: int | None) -> CaseRanking:
    times = {
        kernel: point.seconds + (point.first / calls if calls else 0.0)
        for kernel, points in entry.curves.items()
        for point in points
        if Key.parse(kernel).competes and point.n == n
    }
    ranked = sorted(times, key=times.__getitem__)
    kernels = (RankedKernel(key, times[key], None, growth=_recalled_growth(entry, key)) for key in ranked)
    return CaseRanking(entry.case.at(n), tuple(kernels), {}, entry.machine)


def _recalled_growth(entry: WisdomEntry, kernel: str) -> Growth | None:
    return growth({("", 0): {point.n: point.seconds for point in entry.curves[kernel]}})
