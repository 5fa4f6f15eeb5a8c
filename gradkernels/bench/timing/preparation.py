"""From a kernel to what can be timed: build, first call, proof."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from gradkernels.backend import Backend
from gradkernels.bench.timing.bandwidth import Bandwidth
from gradkernels.bench.timing.control import control
from gradkernels.bench.timing.prepared_kernel import PreparedKernel
from gradkernels.bench.timing.shared_inputs import SharedInputs
from gradkernels.bench.timing.slices import TimedCall
from gradkernels.case import Case
from gradkernels.check import prove
from gradkernels.check.call_options import with_needed
from gradkernels.check.reference import Reference
from gradkernels.kernel import Compute, Kernel
from gradkernels.key import CONTROLS, CONVERT, OUT
from gradkernels.tree import each, leaves


def yardsticks(bandwidth: Bandwidth) -> Iterator[PreparedKernel]:
    """Prepare the control, the canary and the yardsticks of memory."""
    compute = control()
    for name in CONTROLS:  # the canary is the very same call, so that any difference is the harness's
        yield PreparedKernel(TimedCall(name, compute), "numpy", compute)
    for name, move, least in bandwidth.yardsticks():
        yield PreparedKernel(TimedCall(name, move), "numpy", move, least_bytes=least)


def prepared(
    kernel: Kernel, case: Case, shared: SharedInputs, reference: Reference, known: Collection[str]
) -> list[PreparedKernel]:
    """Build, call and prove a kernel; return what to time: the conversion to its library, the kernel, `@out`.

    Args:
        kernel: What to prepare.
        case: What it computes.
        shared: The inputs that it is called with.
        reference: Of the same inputs.
        known: Names of what is prepared already; a conversion is timed once.

    Raises:
        Disagreement: The kernel is wrong.
        BaseException: Whatever the kernel raises.
    """
    backend = kernel.backend
    started = perf_counter()
    compute = kernel.build(case.problem)
    call = with_needed(compute, case, shared.inputs, backend)
    result = backend.wait(call(*shared.arrays[backend.host.name]))
    first = perf_counter() - started
    proof = prove(kernel, compute, case, shared.inputs, reference)
    variants = list(_variants(kernel, case.device, result))
    name = CONVERT + backend.host.name
    found = [] if name in known else list(_conversion(name, backend.host, case.device, shared, result))
    for name, options in variants:
        timed = TimedCall(name, _call(backend.host, call, case.device, shared, options))
        found.append(PreparedKernel(timed, backend.name, compute, kernel, proof, first))
    return found


def _variants(kernel: Kernel, device: str, result: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    yield kernel.key, {}
    if kernel.out:
        out = kernel.backend.put(each(np.empty_like, kernel.backend.get(result)), device)
        yield kernel.key + OUT, {"out": out}


def _call(
    backend: Backend, compute: Compute, device: str, shared: SharedInputs, options: dict[str, Any]
) -> Callable[[], object]:
    arrays, name, wait = shared.arrays, backend.name, backend.wait
    if not backend.eager(device):
        return lambda: wait(compute(*arrays[name], **options))
    if options:
        return lambda: compute(*arrays[name], **options)
    return lambda: compute(*arrays[name])


def _conversion(
    name: str, backend: Backend, device: str, shared: SharedInputs, result: Any
) -> Iterator[PreparedKernel]:
    """Prepare, on its own, what a caller with numpy arrays pays to use this library."""
    if backend.name == "numpy":
        return
    arrays = shared.arrays

    def convert() -> None:
        backend.wait(backend.put(arrays["numpy"], device))
        backend.get(result)

    there_and_back = backend.get(backend.put(shared.inputs, device))
    if all(map(partial(np.array_equal, equal_nan=True), leaves(there_and_back), leaves(shared.inputs))):
        yield PreparedKernel(TimedCall(name, convert), backend.name, convert)
