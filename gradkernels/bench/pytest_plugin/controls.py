"""The control and the canary in a pytest session: timed in turns, before and after each kernel of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gradkernels.bench.timing.control import control
from gradkernels.bench.timing.prepared_kernel import slice_statistics
from gradkernels.bench.timing.slices import TimedCall, no_collection, time_slice, warm_up
from gradkernels.key import CONTROLS
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

    timed: dict[tuple[Any, ...], tuple[Mapping[str, Any], list[TimedCall]]] = field(default_factory=dict)

    @cached_property
    def call(self) -> Any:
        """The same call for both: what tells them apart is not their code."""
        return control()

    def time(self, columns: Mapping[str, Any]) -> None:
        """Time both in turns for about 20 ms, beside a kernel whose row has these columns."""
        key = tuple(columns[name] for name in CASE)
        if key not in self.timed:
            self.timed[key] = (columns, [TimedCall(name, self.call) for name in CONTROLS])
            for yardstick in self.timed[key][1]:
                warm_up(yardstick, WARM_SECONDS)
        one, other = self.timed[key][1]
        with no_collection():
            for timed in (one, other, other, one, other, one, one, other) * BLOCKS:
                timed.slices.append(time_slice(timed.call, timed.iterations))

    def rows(self) -> Iterator[Record]:
        """A row for each of them and case."""
        for columns, calls in self.timed.values():
            for timed in calls:
                yield _row(columns, timed)


def _row(columns: Mapping[str, Any], timed: TimedCall) -> Record:
    own = {"kernel": timed.name, "backend": "numpy", "status": "ok", "error": 0.0, "tolerance": 0.0}
    return Record(**{**columns, **own, **slice_statistics(timed)})
