"""What a session and its measuring processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from gradkernels.bench.run.plan import Plan
from gradkernels.record import Measurement

CaseKernel = tuple[int, str]
"""Position of a case in the plan, and the key of a kernel."""

MEMORY_PASS = 0


@dataclass(frozen=True)
class Orders:
    """What one measuring process has to do.

    Attributes:
        plan: The run.
        pass_: Number of the pass, from 1; 0 measures memory instead of time.
        deadline: On the system's monotonic clock, when the pass should be over.
        allowance: Seconds of the budget for one pass, the same for all: what is too slow in one is so in each.
        budget: As the person wrote it, for messages.
        done: What need not be done (again).
        alone: The one thing to do, if there is one: where a process was lost, and nothing else may be to blame.
    """

    plan: Plan
    pass_: int
    deadline: float
    allowance: float
    budget: str
    done: tuple[CaseKernel, ...] = ()
    alone: CaseKernel | None = None

    def wants(self, case: int, kernel: str) -> bool:
        """Tell whether a kernel is to be measured on a case."""
        one = (case, kernel)
        return one == self.alone if self.alone else one not in self.done


@dataclass(frozen=True)
class KernelMeasured:
    """A kernel was proven and timed on a case, or why not."""

    case: int
    measurement: Measurement

    @property
    def kernel(self) -> str:
        """Its key."""
        return self.measurement.kernel


@dataclass(frozen=True)
class PeakMeasured:
    """The memory that a kernel needs on a case, in bytes; None where it cannot be seen."""

    case: int
    kernel: str
    peak_bytes: int | None


Report = KernelMeasured | PeakMeasured
