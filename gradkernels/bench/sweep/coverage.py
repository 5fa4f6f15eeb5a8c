"""Which shards the rows of merged files come from: what is missing of a run, and what several have measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gradkernels.bench.sweep.shards import Shard
from gradkernels.coordinates import Coordinates
from gradkernels.names import counted

_PART = re.compile(r".+-(\d{1,9})of(\d{1,9})-([0-9a-f]{8})", re.ASCII)
_MOST_SHOWN = 8


@dataclass
class Coverage:
    """What is known of the runs of shards by their names.

    A case that two runs of one plan have measured is lost or doubled nowhere: each run's passes are its own, and a
    verdict rests on those of both. But one of the two machines had nothing to do but that.
    """

    _shards: dict[str, set[Shard]] = field(default_factory=dict, init=False)
    _runs: dict[tuple[object, ...], dict[str, Shard]] = field(default_factory=dict, init=False)

    def add(self, run: str, case: Coordinates) -> None:
        """Note of which run rows of a case are, if that measured a shard."""
        if (origin := origin_of(run)) is None:
            return
        plan, shard = origin
        self._shards.setdefault(plan, set()).add(shard)
        self._runs.setdefault((plan, case), {})[run] = shard

    def sentences(self) -> list[str]:
        """Return what a reader of the merged file should know."""
        return [*self._missing(), *self._shared()]

    def _missing(self) -> Iterator[str]:
        for plan, shards in sorted(self._shards.items()):
            for count in sorted({shard.count for shard in shards}):
                there = {shard.number for shard in shards if shard.count == count}
                if lost := [number for number in range(1, count + 1) if number not in there]:
                    are = "is" if len(lost) == 1 else "are"
                    yield f"of {count} shards of plan {plan} {_listed(lost)} {are} missing"
                else:
                    yield f"all {count} shards of plan {plan} are there"

    def _shared(self) -> Iterator[str]:
        shared = Counter(tuple(sorted(runs.items(), key=lambda one: one[0])) for runs in self._runs.values())
        several = [(runs, cases) for runs, cases in sorted(shared.items(), key=str) if len(runs) > 1]
        for runs, cases in several[:_MOST_SHOWN]:
            by = _listed(f"run {run} (shard {shard})" for run, shard in runs)
            yield f"{counted(cases, 'case')} measured more than once, by {by}; the passes of each count"
        if (more := len(several) - _MOST_SHOWN) > 0:
            yield f"other cases were measured more than once, by {counted(more, 'combination')} more of runs"


def origin_of(run: str) -> tuple[str, Shard] | None:
    """Return the plan and the shard of a run by its name, such as `a1b2c3d4e5f6-3of16-0123abcd`; None of other runs."""
    if not (found := _PART.fullmatch(run)):
        return None
    try:
        return found[3], Shard(int(found[1]), int(found[2]))
    except ValueError:  # a name that somebody chose
        return None


def _listed(those: Iterable[object]) -> str:
    """Return `3, 5 and 9`, or the first ones and how many there are."""
    shown = [str(one) for one in those]
    if len(shown) > _MOST_SHOWN:
        return f"{', '.join(shown[:_MOST_SHOWN])} and {len(shown) - _MOST_SHOWN} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
