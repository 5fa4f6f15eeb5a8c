"""A measuring process, as the session sees it: one worker that follows its orders, and what it reports on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.isolation.messages import Finished
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.supervisor import Supervisor
from gradkernels.bench.run.messages import KernelMeasured, Orders, PeakMeasured, Report

_WORKER = "gradkernels.bench.run.worker:main"


def measure_in_process(
    orders: Orders, environment: Mapping[str, str], limits: ProcessLimits, hear: Callable[[Report], None]
) -> None:
    """Have a fresh process follow `orders`.

    Args:
        orders: What it has to do.
        environment: Its variables.
        limits: Of its time and memory.
        hear: Called with each of its reports; refuses with TypeError, ValueError or LookupError what cannot be one.

    Raises:
        WorkerDied: It crashed, hung or sent what is no report; comes after the reports that it still sent.
    """
    data = orders.plan.data
    program = Program(_WORKER, environment, limits, descriptors=(data,) if isinstance(data, int) else ())
    with Supervisor() as supervisor:
        worker = supervisor.start(program)
        worker.send(orders)
        while True:
            report: Report | Finished = worker.receive(KernelMeasured, PeakMeasured, Finished)
            if isinstance(report, Finished):
                return
            try:
                hear(report)
            except (TypeError, ValueError, LookupError) as fault:
                raise worker.forged(fault) from fault
