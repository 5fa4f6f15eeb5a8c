"""The control and the canary in a pytest session: timed in turns, before and after each kernel of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gradkernels.bench.timing.control import control
from gradkernels.bench.timing.prepared_kernel import EXACT, PreparedKernel
from gradkernels.bench.timing.slices import TimedCall, no_collection, time_slice, warm_up
from gradkernels.coordinates import Coordinates
from gradkernels.key import CONTROLS
from gradkernels.record import Record

WARM_SECONDS = 0.02
BLOCKS = 25


@dataclass(frozen=True)
class Yardsticks:
    """What was timed beside the kernels so far.

    pytest-benchmark takes its tests one after the other, so these cannot take turns with the kernels as they do in
    `gradkernels run`; a slow spell of the machine may hit one and miss the other.

    Attributes:
        timed: By case, the facts that all its records say, and the control and the canary.
    """

    timed: dict[Coordinates, tuple[Mapping[str, Any], list[TimedCall]]] = field(default_factory=dict)

    @cached_property
    def call(self) -> Any:
        """Call that both time: what tells them apart is not the code."""
        return control()

    def time(self, facts: Mapping[str, Any]) -> None:
        """Time both in turns for about 20 ms, beside a kernel whose record says these facts."""
        key: Coordinates = facts["case"]
        if key not in self.timed:
            self.timed[key] = (facts, [TimedCall(name, self.call) for name in CONTROLS])
            for yardstick in self.timed[key][1]:
                warm_up(yardstick, WARM_SECONDS)
        one, other = self.timed[key][1]
        with no_collection():
            for timed in (one, other, other, one, other, one, one, other) * BLOCKS:
                timed.slices.append(time_slice(timed.call, timed.iterations))

    def rows(self) -> Iterator[Record]:
        """Give the record of each of them on each case."""
        for facts, calls in self.timed.values():
            for timed in calls:
                yield Record(**facts, measurement=PreparedKernel(timed, "numpy", timed.call).measured(EXACT))
