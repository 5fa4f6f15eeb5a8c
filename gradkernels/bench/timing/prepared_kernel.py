"""What is ready to be timed, and the measurement that its slices come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.timing.slices import TimedCall
from gradkernels.check import Proof
from gradkernels.kernel import Compute, Kernel
from gradkernels.record import Measurement, Status

EXACT = Proof(0.0, 0.0)
"""In place of a proof, for what is no kernel: a yardstick or a conversion."""


@dataclass(frozen=True)
class PreparedKernel:
    """A kernel that is built and proven, or a yardstick, waiting to be timed.

    Attributes:
        timed: The call, under the key of the kernel or yardstick.
        backend: Name of the library.
        compute: What was proven and is timed.
        kernel: The kernel; None for the yardsticks and the conversions.
        proof: What the proof before timing found.
        seconds_first: Seconds that building and the first call took.
        least_bytes: Bytes that a yardstick of memory moves.
    """

    timed: TimedCall
    backend: str
    compute: Compute
    kernel: Kernel | None = None
    proof: Proof = EXACT
    seconds_first: float | None = None
    least_bytes: int | None = None

    def refused(self, status: Status, reason: str) -> Measurement:
        """Return the measurement without a time.

        Args:
            status: What became of it.
            reason: Why.
        """
        return Measurement(self.timed.name, self.backend, status, reason)

    def measured(self, again: Proof) -> Measurement:
        """Return the measurement of the slices, with what the proof after timing found."""
        return Measurement(
            self.timed.name,
            self.backend,
            Status.ok,
            self.timed.note,
            error=max(self.proof.error, again.error),
            tolerance=self.proof.tolerance,
            seconds_first=self.seconds_first,
            least_bytes=self.least_bytes,
            **slice_statistics(self.timed),
        )


def slice_statistics(timed: TimedCall) -> dict[str, Any]:
    """Return the columns that slices fill: rounds, iterations, and seconds per call at the median and quartiles."""
    low, middle, high = (float(value) for value in np.quantile(timed.slices, (0.25, 0.5, 0.75)))
    return {
        "rounds": len(timed.slices),
        "iterations": timed.iterations,
        "seconds_median": middle,
        "seconds_min": min(timed.slices),
        "seconds_q25": low,
        "seconds_q75": high,
    }


def libraries_of(kernels: Sequence[Kernel]) -> list[str]:
    """Return the names of the libraries that `kernels` compute with, in their order."""
    names = {kernel.backend.name for kernel in kernels}
    return [name for name in BACKENDS if name in names]
