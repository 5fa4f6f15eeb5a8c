"""Which shards the rows of merged files come from: what is missing of a run, and what several have measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from gradkernels.bench.sweep.shards import Shard
from gradkernels.coordinates import Coordinates
from gradkernels.names import counted

_PART = re.compile(r".+-(\d{1,9})of(\d{1,9})-([0-9a-f]{8})(?:-(\d{1,12})rows)?", re.ASCII)
_MOST_SHOWN = 8


@dataclass(frozen=True)
class ShardOrigin:
    """What the name of a run tells.

    Attributes:
        plan: Eight digits of the whole run's plan.
        shard: Which part of it was measured.
        rows: How many rows of kernels the shard has when it is through; None where the name does not tell.
    """

    plan: str
    shard: Shard
    rows: int | None


@dataclass
class Coverage:
    """What is known of the runs of shards by their names.

    A case that two runs of one plan have measured is lost or doubled nowhere: each run's passes are its own, and a
    verdict rests on those of both. But one of the two machines had nothing to do but that.
    """

    _runs: dict[tuple[str, Coordinates], dict[str, Shard]] = field(default_factory=dict, init=False)
    _rows: dict[tuple[str, Shard], dict[tuple[str, Coordinates], int]] = field(default_factory=dict, init=False)
    _whole: dict[tuple[str, Shard], int | None] = field(default_factory=dict, init=False)

    def add(self, run: str, case: Coordinates, rows: int) -> None:
        """Note of which run rows of a case are, if that measured a shard.

        Args:
            run: Its name.
            case: What was computed.
            rows: How many there are, of kernels, besides those that were noted before.
        """
        if (origin := origin_of(run)) is None:
            return
        which = origin.plan, origin.shard
        found = self._rows.setdefault(which, {})
        found[run, case] = found.get((run, case), 0) + rows
        if origin.rows is not None or which not in self._whole:
            self._whole[which] = max(origin.rows or 0, self._whole.get(which) or 0) or None
        self._runs.setdefault((origin.plan, case), {})[run] = origin.shard

    def sentences(self) -> list[str]:
        """Return what a reader of the merged file should know."""
        sizes = sorted({(plan, shard.count) for plan, shard in self._rows})
        return [*(sentence for one in sizes for sentence in self._of_plan(*one)), *self._shared()]

    def _of_plan(self, plan: str, count: int) -> Iterator[str]:
        there = sorted(shard.number for of, shard in self._rows if (of, shard.count) == (plan, count))
        have = {number: (self._count(plan, number, count), self._whole[plan, Shard(number, count)]) for number in there}
        short = {number: (rows, whole) for number, (rows, whole) in have.items() if whole and rows < whole}
        unknown = [number for number, (_, whole) in have.items() if not whole]
        if lost := [number for number in range(1, count + 1) if number not in have]:
            yield f"of {count} shards of plan {plan} {_are(lost)} missing"
        else:
            all_rows = ", but not all of their rows" if short else "" if unknown else ", with all of their rows"
            yield f"all {counted(count, 'shard')} of plan {plan} {'is' if count == 1 else 'are'} there{all_rows}"
        for number, (rows, whole) in islice(short.items(), _MOST_SHOWN):
            yield f"shard {number}/{count} has {rows:,} of {whole:,} rows: go on with it by --resume, and merge again"
        if (more := len(short) - _MOST_SHOWN) > 0:
            yield f"{counted(more, 'other shard')} {'lacks' if more == 1 else 'lack'} rows too"
        if unknown:
            untold = "the names of their runs do not tell how many rows they have"
            yield f"whether {_are(unknown)} whole is not known: {untold}"

    def _count(self, plan: str, number: int, count: int) -> int:
        """Return how many rows a shard has, of each case those of the run that has most of it."""
        most: dict[Coordinates, int] = {}
        for (_, case), rows in self._rows[plan, Shard(number, count)].items():
            most[case] = max(rows, most.get(case, 0))
        return sum(most.values())

    def _shared(self) -> Iterator[str]:
        shared = Counter(tuple(sorted(runs.items(), key=lambda one: one[0])) for runs in self._runs.values())
        several = [(runs, cases) for runs, cases in sorted(shared.items(), key=str) if len(runs) > 1]
        for runs, cases in several[:_MOST_SHOWN]:
            by = _listed(f"run {run} (shard {shard})" for run, shard in runs)
            yield f"{counted(cases, 'case')} measured more than once, by {by}; the passes of each count"
        if (more := len(several) - _MOST_SHOWN) > 0:
            yield f"other cases were measured more than once, by {counted(more, 'combination')} more of runs"


def origin_of(run: str) -> ShardOrigin | None:
    """Return what the name of a run tells, such as `a1b2c3d4e5f6-3of16-0123abcd-90rows`; None of no shard's run."""
    if not (found := _PART.fullmatch(run)):
        return None
    try:
        return ShardOrigin(found[3], Shard(int(found[1]), int(found[2])), int(found[4]) if found[4] else None)
    except ValueError:  # a name that somebody chose
        return None


def _are(those: Sequence[object]) -> str:
    return f"{_listed(those)} {'is' if len(those) == 1 else 'are'}"


def _listed(those: Iterable[object]) -> str:
    """Return `3, 5 and 9`, or the first ones and how many there are."""
    shown = [str(one) for one in those]
    if len(shown) > _MOST_SHOWN:
        return f"{', '.join(shown[:_MOST_SHOWN])} and {len(shown) - _MOST_SHOWN} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
