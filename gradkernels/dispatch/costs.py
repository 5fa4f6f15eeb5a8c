"""What the kernels that were measured would cost for a request, by each source that knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.dispatch.request import Request
from gradkernels.kernel import Kernel
from gradkernels.key import CONVERT, Key
from gradkernels.registry import kernel as kernel_by_key

SAVED = "this machine's saved wisdom"
Failures = Mapping[Kernel, str]
"""Kernels that could not be proven, with the reason."""


def sources_for(request: Request) -> Iterator[wisdom.Known]:
    """Yield what is known of the case, the most trusted first: a file that the caller names, or else saved and shipped.

    Raises:
        ValueError: The caller's file has no proven row for the case.
    """
    case, file = request.case, request.criteria.results
    if file is not None:
        entry = wisdom.nearest_entry(wisdom.measured(file), case, None)
        if entry is None:
            raise ValueError(
                f"{file} has no proven time for {case.quantity} of {case.problem.name} in "
                f"{case.dtype} on {case.device}; measure it with `gradkernels run`, or leave results= out"
            )
        yield wisdom.Known(f"{file}", entry)
        return
    for source, table in (
        ("a race of this process, which could not be saved", wisdom.unsaved()),
        (SAVED, wisdom.saved()),
        ("the table shipped with gradkernels", wisdom.shipped()),
    ):
        if entry := wisdom.nearest_entry(table, case, machine()):
            yield wisdom.Known(source, entry)


def costs_of(request: Request, known: wisdom.Known, able: Sequence[Kernel], failed: Failures) -> dict[Kernel, float]:
    """Return seconds per call of the kernels that were measured, conversion and share of the first call included.

    Args:
        request: What is to be computed.
        known: What was measured.
        able: Kernels that count, each with all of its settings.
        failed: What does not, settings too.
    """
    n, entry = request.case.n, known.entry
    costs = {}
    for kernel in [variant for one in able for variant in _measured(one, known) if variant not in failed]:
        if points := entry.curves.get(kernel.key):
            first = points[-1].first / request.criteria.calls if request.criteria.calls else 0.0
            costs[kernel] = wisdom.seconds_at(points, n) + _conversion(request, entry, kernel) + first
    return costs


def is_far(request: Request, entry: wisdom.WisdomEntry, kernel: Kernel) -> bool:
    """Tell whether the number of samples is far from all that a kernel was measured at.

    Args:
        request: What is to be computed.
        entry: What was measured.
        kernel: One that is in it.
    """
    return wisdom.beyond(entry.curves[kernel.key], request.case.n) > wisdom.FARTHEST


def _measured(kernel: Kernel, known: wisdom.Known) -> Iterator[Kernel]:
    """Yield the kernel, and it with each of the settings that it was measured with."""
    yield kernel
    plain = Key.parse(kernel.key)
    keys = map(Key.parse, known.entry.curves)
    for key in keys:
        if key.settings and not key.out and key.plain == plain:
            try:
                yield kernel_by_key(str(key))
            except ValueError as fault:  # measured by a version that has the setting
                file = wisdom.saved_path() if known.source == SAVED else known.source
                where = f"{file}, in the entry {wisdom.described(known.entry)},"
                wisdom.pass_over(f"the times of {key} of {where} are", str(fault))


def _conversion(request: Request, entry: wisdom.WisdomEntry, kernel: Kernel) -> float:
    if kernel.backend.host is request.library:
        return 0.0
    # numpy arrays are what every library is converted from and to: there is no `convert.numpy`.
    curves = [entry.curves.get(CONVERT + library.name) for library in (kernel.backend.host, request.library)]
    return sum(wisdom.seconds_at(points, request.case.n) for points in curves if points)
