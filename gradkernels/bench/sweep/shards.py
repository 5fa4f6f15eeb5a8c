"""Shards of a run: which of its cases one of several machines measures, by the plan alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from gradkernels.bench.run.plan import Plan
from gradkernels.names import counted

MOST_SHARDS = 1_000_000
_WRITTEN = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of several parts of a run.

    Attributes:
        number: Which, from 1.
        count: Of how many.

    Raises:
        ValueError: There is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Refuse what is no part."""
        whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (self.number, self.count))
        if not (whole and 1 <= self.number <= self.count <= MOST_SHARDS):
            raise ValueError(f"shard {self}: shards are numbered from 1 to their count, at most {MOST_SHARDS:,}: 3/16")

    def __str__(self) -> str:
        """Return `3/16`."""
        return f"{self.number}/{self.count}"


def shard_from(text: str) -> Shard:
    """Read `3/16`.

    Raises:
        ValueError: It is no shard.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if not found:
        raise ValueError(f"--shard {text}: write the shard and how many there are, from 1/16 to 16/16")
    return Shard(int(found[1]), int(found[2]))


def sharded(plans: Sequence[Plan], shard: Shard | None) -> list[Plan]:
    """Return the plans with the cases of one shard alone, without those that have none of them.

    The largest cases are dealt out first, from the first shard to the last and back again, so that each shard has small
    and large ones and, where there are two quantities, both. What is dealt depends on the options that make the cases:
    problem, data, quantities, the kernels that were named, sizes, features, dtype and threads; not on what is
    installed, the machine, the budget or the passes.

    Args:
        plans: Of the whole run.
        shard: Which part; None for all of it.

    Raises:
        ValueError: There are more shards than cases.
    """
    if shard is None:
        return [*plans]
    cases = [(place, position) for place, plan in enumerate(plans) for position in range(len(plan.cases))]
    if len(cases) < shard.count:
        most = f"{len(cases)} shards" if len(cases) > 1 else "1 shard"
        raise ValueError(
            f"shard {shard}: the run has {counted(len(cases), 'case')}, which stay whole; use at most {most}"
        )
    cases.sort(key=lambda one: -plans[one[0]].cases[one[1]].n)
    mine = {one for turn, one in enumerate(cases) if _dealt_to(turn, shard.count) == shard.number}
    part = f"{shard.number}of{shard.count}-{plan_key(plans)}"
    chosen = (tuple(own for at, own in sorted(mine) if at == place) for place in range(len(plans)))
    return [replace(plan, chosen=own, part=part) for plan, own in zip(plans, chosen, strict=True) if own]


def expecting(plans: Sequence[Plan], passes: int) -> list[Plan]:
    """Return the plans of a shard, the names of whose runs tell how many rows of kernels it has when it is through.

    Args:
        plans: As `sharded` returns them; those of a whole run stay as they are.
        passes: Of which each has a row for every kernel and case.
    """
    rows = passes * sum(len(plan.kernels_of(case)) for plan in plans for case in plan.cases)
    return [replace(plan, part=f"{plan.part}-{rows}rows") if plan.part else plan for plan in plans]


def plan_key(plans: Sequence[Plan]) -> str:
    """Return eight hexadecimal digits of what is measured: cases, their data and kernels, in whatever order."""
    measured = sorted(
        (astuple(plan.coordinates(case)), case.seed, sorted(kernel.key for kernel in plan.kernels_of(case)))
        for plan in plans
        for case in plan.cases
    )
    return hashlib.blake2b(repr(measured).encode(errors="replace"), digest_size=4).hexdigest()


def _dealt_to(turn: int, count: int) -> int:
    """Return the number of the shard that the card of a turn goes to: 1 2 3 3 2 1 1 2 3 ..."""
    round_, seat = divmod(turn, count)
    return count - seat if round_ % 2 else seat + 1
