"""What takes part in a race, and what comes out of it: one `Outcome` per kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.timing.slices import Entrant
from gradkernels.kernel import Compute, Kernel

CALLS = 8  # of a kernel in one case: first, proofs before and after, warm-up, three slices
OUT = "@out"


@dataclass(frozen=True)
class Outcome:
    """What a child process found out about one kernel on one case."""

    kernel: str
    backend: str
    status: str
    reason: str = ""
    error: float | None = None
    tolerance: float | None = None
    rounds: int | None = None
    iterations: int | None = None
    seconds_median: float | None = None
    seconds_min: float | None = None
    seconds_q25: float | None = None
    seconds_q75: float | None = None
    seconds_first: float | None = None
    peak_bytes: int | None = None
    least_bytes: int | None = None
    limit_seconds: float | None = None

    def values(self) -> dict[str, Any]:
        """The columns as a dict."""
        return asdict(self)


class Racer(Entrant):
    """An entrant that says so when its turn begins.

    Its call is looked up once for a slice, before the clock is read: that is when it says it.
    """

    def __init__(self, name: str, call: Callable[[], object], begin: Callable[[], None]) -> None:
        self._begin = begin
        super().__init__(name, call)

    @property
    def call(self) -> Callable[[], object]:
        """Computes the quantity."""
        self._begin()
        return self._call

    @call.setter
    def call(self, call: Callable[[], object]) -> None:
        self._call = call


@dataclass(frozen=True)
class Ready:
    """A kernel that is built and proven, waiting for its race.

    Attributes:
        kernel: The kernel; None for the yardsticks and the conversions.
        compute: What was proven and is timed.
        entrant: Its slices.
        outcome: Status `ok` with the proof, and the first call's time.
    """

    kernel: Kernel | None
    compute: Compute
    entrant: Racer
    outcome: Outcome


def control() -> Callable[[], np.float64]:
    """A small fixed computation that no change of gradkernels touches: the yardstick between files."""
    numbers = np.arange(1000.0)

    def compute() -> np.float64:
        return (numbers * numbers).sum()

    if compute() != 332833500.0:
        raise ArithmeticError("numpy does not sum the squares of 0 to 999 to 332833500; nothing it says can be trusted")
    return compute


def libraries_of(kernels: Sequence[Kernel]) -> list[str]:
    """Names of the libraries that `kernels` compute with, in their order."""
    names = {kernel.backend.name for kernel in kernels}
    return [name for name in BACKENDS if name in names]
