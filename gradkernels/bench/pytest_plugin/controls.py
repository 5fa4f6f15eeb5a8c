"""The control and the canary in a pytest session: timed in turns, before and after each kernel of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.bench.timing.outcome import control
from gradkernels.bench.timing.slices import Entrant, no_collection, time_slice, warm_up
from gradkernels.dispatch.wisdom import YARDSTICKS
from gradkernels.record import CASE, Record

WARM_SECONDS = 0.02
BLOCKS = 25


@dataclass(frozen=True)
class Yardsticks:
    """What was timed beside the kernels so far.

    pytest-benchmark takes its tests one after the other, so these cannot take turns with the kernels as they do in
    `gradkernels run`; a slow spell of the machine may hit one and miss the other.

    Attributes:
        timed: By case, the columns that all its rows share, and the control and the canary.
    """

    timed: dict[tuple[Any, ...], tuple[Mapping[str, Any], list[Entrant]]] = field(default_factory=dict)

    @cached_property
    def call(self) -> Any:
        """The same call for both: what tells them apart is not their code."""
        return control()

    def time(self, columns: Mapping[str, Any]) -> None:
        """Time both in turns for about 20 ms, beside a kernel whose row has these columns."""
        key = tuple(columns[name] for name in CASE)
        if key not in self.timed:
            self.timed[key] = (columns, [Entrant(name, self.call) for name in YARDSTICKS])
            for entrant in self.timed[key][1]:
                warm_up(entrant, WARM_SECONDS)
        one, other = self.timed[key][1]
        with no_collection():
            for entrant in (one, other, other, one, other, one, one, other) * BLOCKS:
                entrant.slices.append(time_slice(entrant.call, entrant.iterations))

    def rows(self) -> Iterator[Record]:
        """A row for each of them and case."""
        for columns, entrants in self.timed.values():
            for entrant in entrants:
                yield _row(columns, entrant)


def _row(columns: Mapping[str, Any], entrant: Entrant) -> Record:
    low, middle, high = (float(value) for value in np.quantile(entrant.slices, (0.25, 0.5, 0.75)))
    own = {"kernel": entrant.name, "backend": "numpy", "status": "ok", "error": 0.0, "tolerance": 0.0}
    times = {
        "rounds": len(entrant.slices),
        "iterations": entrant.iterations,
        "seconds_median": middle,
        "seconds_min": min(entrant.slices),
        "seconds_q25": low,
        "seconds_q75": high,
    }
    return Record(**{**columns, **own, **times})
