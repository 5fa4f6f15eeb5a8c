"""From a kernel to what can be timed: built once in a process, called, proven."""

from __future__ import annotations

import time
from functools import partial

from batch_race import clock_of

from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import failure_reason
from gradkernels.bench.timing.prepared_kernel import EXACT, PreparedKernel
from gradkernels.bench.timing.slices import TimedCall
from gradkernels.check import Disagreement
from gradkernels.record import Measurement, Status


class Preparation:
    """Prepares kernels of one problem; what is built stays for the next size.

    Args:
        truth: Of the problem.
        proving: Whether results are held against it.
    """

    def __init__(self, truth, proving=True):
        self.truth, self.proving = truth, proving
        self.built = {}

    def __call__(self, kernel, case, arrays):
        """Build, call and prove a kernel.

        Args:
            kernel: Which.
            case: What it computes.
            arrays: Theta, x and y as torch tensors.

        Returns:
            What can be timed, or the measurement that says why not.
        """
        refused = partial(Measurement, kernel.key, kernel.backend.name)
        if kernel.backend.name != "jax" and (reasons := kernel.unsupported(case)):
            return refused(Status.unsupported, "; ".join(reasons))
        try:
            with environment.preserved_process_state():
                return self._prepared(kernel, case, arrays)
        except Disagreement as disagreement:
            return refused(Status.wrong, str(disagreement))
        except Exception as fault:
            return refused(Status.failed, failure_reason(fault))

    def _prepared(self, kernel, case, arrays):
        (_, x, y), wait, host = arrays, kernel.backend.wait, kernel.backend.host
        theta, on_torch = case.problem.parameters(), host.name == "torch"
        if not on_torch:
            theta, x, y = host.put(self.truth.inputs(case.n))
        started, known = time.perf_counter(), self.built.get(kernel.key)
        compute = known or kernel.build(case.problem)
        result = wait(compute(theta, x, y))
        first, proof = time.perf_counter() - started, EXACT
        if self.proving:
            proof = self.truth.prove(kernel, compute, case, result, thorough=known is None)
        self.built[kernel.key] = compute
        call = partial(compute, theta, x, y) if on_torch else lambda: wait(compute(theta, x, y))
        timed = TimedCall(kernel.key, call, clock=clock_of(case.device))
        return PreparedKernel(timed, kernel.backend.name, compute, kernel, proof, first)

    def measured(self, one, case):
        """Return the measurement of what was timed, whose result is looked at once more."""
        try:
            again = self.truth.prove(one.kernel, one.compute, case, one.timed.call(), thorough=False)
        except Disagreement as disagreement:
            return one.refused(Status.wrong, f"after timing: {disagreement}")
        return one.measured(again)
