"""What a measuring process says while it is at one case: which kernel is at work, and what was found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import failure_reason
from gradkernels.bench.isolation.heartbeat import HARNESS, UNKNOWN
from gradkernels.bench.isolation.worker_side import Connection
from gradkernels.bench.run.messages import KernelMeasured, PeakMeasured
from gradkernels.case import Case
from gradkernels.check.call_options import with_needed
from gradkernels.kernel import Kernel
from gradkernels.record import Measurement


class CaseReports:
    """The reports on one case.

    Args:
        connection: To the supervisor.
        case: Position of the case in the plan.
        positions: Of the kernels in the plan, by key.
    """

    def __init__(self, connection: Connection, case: int, positions: Mapping[str, int]) -> None:
        self._connection = connection
        self._case = case
        self._positions = positions

    def begin(self, kernel: Kernel | None) -> None:
        """Say that a kernel is at work from now on, or with None the harness."""
        self._connection.beat(self._case, self._positions[kernel.key] if kernel else HARNESS)

    def blame(self, kernels: Sequence[Kernel]) -> None:
        """Say that one of these kernels did what is found out now."""
        self._connection.beat(self._case, self._positions[kernels[0].key] if len(kernels) == 1 else UNKNOWN)

    def measured(self, measurement: Measurement) -> None:
        """Report a kernel that was timed, or why not."""
        self._connection.send(KernelMeasured(self._case, measurement))

    def peak(self, kernel: Kernel, peak_bytes: int | None) -> None:
        """Report the memory that a call of a kernel needs, None where it cannot be seen."""
        self._connection.send(PeakMeasured(self._case, kernel.key, peak_bytes))

    def attempt(self, kernel: Kernel, do: Callable[[], object]) -> None:
        """Do what calls a kernel; what it raises shows again, and is reported, when it is proven."""
        self.begin(kernel)
        try:
            with environment.preserved_process_state():
                do()
        except BaseException as fault:
            failure_reason(fault)
        self.begin(None)


def prepared_call(kernel: Kernel, case: Case, inputs: Any) -> Callable[[], Any]:
    """Return a call of a kernel that ends when its result is there.

    Args:
        kernel: What to build.
        case: What it computes.
        inputs: Theta, x and y as numpy arrays.
    """
    arrays = kernel.backend.put(inputs, case.device)
    compute, wait = with_needed(kernel.build(case.problem), case, inputs, kernel.backend), kernel.backend.wait
    return lambda: wait(compute(*arrays))
