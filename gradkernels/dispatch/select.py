"""Which kernel to use: the cheapest one that is known, or a rule where nothing is, always with the reason why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gradkernels.case import Case
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.dispatch.request import Request
from gradkernels.dispatch.rule import by_rule
from gradkernels.kernel import Kernel
from gradkernels.key import CONVERT, Key
from gradkernels.names import counted
from gradkernels.problems import BlackBox
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.registry import kernels

TIE = 0.03
"""Costs this close are equal: measurements of one kernel differ by as much."""

FAR = 2
"""Times the largest size that was measured, or under the smallest, beyond which costs are a guess."""

NEAR_COST, MOST_RIVALS = 4, 3
"""There kernels that would cost up to so many times the cheapest are tried against it, at most so many of them."""


@dataclass(frozen=True)
class Choice:
    """The kernel chosen, what it and the others would cost, and what that is known from.

    Attributes:
        kernel: The winner.
        source: Where the costs come from.
        costs: Seconds per call by kernel, cheapest first; empty when a rule decided.
        refused: Kernels that cannot do the case, or not within the memory, with the reason.
        rivals: Of a module, kernels that may be faster, as a trial in the caller's own calls would tell.
    """

    kernel: Kernel
    source: str
    costs: tuple[tuple[Kernel, float], ...]
    refused: tuple[tuple[Kernel, str], ...]
    rivals: tuple[Kernel, ...] = ()


def choose(request: Request, failed: Mapping[Kernel, str] | None = None) -> Choice:
    """Choose the fastest kernel for the request among those that can do it here.

    Order of trust: the caller's results file, this machine's saved wisdom, the shipped table, a rule.

    Args:
        request: What is to be computed.
        failed: Kernels that could not be proven for it, with the reason; not to be chosen.

    Raises:
        ValueError: No kernel can do the case (every reason is given), none is known to stay within
            `max_bytes`, or the results file has no proven row for the case.
    """
    case = request.case
    every, sources = kernels(case.problem, case.quantity), tuple(_sources(request))
    reasons = _reasons(request, every, [entry for _, entry in sources], failed or {})
    able = [kernel for kernel in every if reasons.get(kernel) == ()]
    # The cause first: what was tried and failed.
    order = sorted(every, key=lambda kernel: kernel not in (failed or {}))
    refused = [(kernel, "; ".join(reasons[kernel])) for kernel in order if reasons.get(kernel)]
    if not able:
        listed = "; ".join(reason for _, reason in refused) or "no kernel is declared for it"
        raise ValueError(f"nothing can compute {case.quantity} of {case.problem.name} here: {listed}")
    for source, entry in sources:
        costs = _costs(request, entry, able)
        costs = {kernel: cost for kernel, cost in costs.items() if kernel not in (failed or {})}
        if costs:
            choice = _cheapest(request, entry, source, costs, refused)
            return replace(choice, rivals=_rivals(request, entry, choice, able))
    if request.criteria.max_bytes is not None and not isinstance(case.problem, BlackBox):
        raise ValueError(
            f"max_bytes={request.criteria.max_bytes} was given, but no memory was measured for {case.quantity} of "
            f"{case.problem.name}; run `gradkernels run` and pass its CSV as results="
        )
    kernel, rule = by_rule(case, request.library, able)
    rivals = tuple(one for one in able if one.pays_after and one is not kernel)
    return Choice(kernel, f"a rule, as nothing was measured for it: {rule}", (), tuple(refused), rivals)


def _reasons(
    request: Request, every: Sequence[Kernel], entries: Sequence[wisdom.WisdomEntry], failed: Mapping[Kernel, str]
) -> dict[Kernel, tuple[str, ...]]:
    """Say why kernels cannot do the case, of those that the choice can fall on: to ask a library, it is imported.

    For a module that is one of another package than torch where it may be the fastest, or where torch has none left.
    """

    def asked(kernel: Kernel) -> tuple[str, ...]:
        return (failed[kernel],) if kernel in failed else kernel.unsupported(request.case)

    of_module = isinstance(request.case.problem, BlackBox)
    others = [one for one in every if of_module and one.backend.host is not one.backend]
    reasons = {kernel: asked(kernel) for kernel in every if kernel not in others}
    able = [kernel for kernel, refused in reasons.items() if not refused]
    if not able:
        return {kernel: reasons.get(kernel) or asked(kernel) for kernel in every}
    reasons |= {one: asked(one) for one in others if any(_may_win(request, entry, one, able) for entry in entries)}
    return reasons


def _may_win(request: Request, entry: wisdom.WisdomEntry, kernel: Kernel, able: Sequence[Kernel]) -> bool:
    """Tell whether a kernel was measured to be as fast as those that are able, or nearly, far from any size."""
    own, costs = _costs(request, entry, [kernel]), _costs(request, entry, able)
    factor = NEAR_COST if any(_is_far(request, entry, one) for one in own) else 1 + TIE
    return bool(own) and min(own.values()) <= min(costs.values(), default=float("inf")) * factor


def _is_far(request: Request, entry: wisdom.WisdomEntry, kernel: Kernel) -> bool:
    """Tell whether the number of samples is far from all that a kernel was measured at."""
    sizes = [point.n for point in entry.curves[kernel.key]]
    return not min(sizes) / FAR <= request.case.n <= max(sizes) * FAR


def _sources(request: Request) -> Iterator[tuple[str, wisdom.WisdomEntry]]:
    case = request.case
    if request.criteria.results is not None:
        entry = _nearest(wisdom.measured(request.criteria.results), case, None)
        if entry is None:
            raise ValueError(
                f"{request.criteria.results} has no proven time for {case.quantity} of {case.problem.name} in "
                f"{case.dtype} on {case.device}; measure it with `gradkernels run`, or leave results= out"
            )
        yield f"{request.criteria.results}", entry
        return
    if entry := _nearest(wisdom.saved_if_readable(), case, machine()):
        yield "this machine's saved wisdom", entry
    if entry := _nearest(wisdom.shipped(), case, machine()):
        yield "the table shipped with gradkernels", entry


def _nearest(table: wisdom.Wisdom, case: Case, here: str | None) -> wisdom.WisdomEntry | None:
    answers = [entry for entry in table if entry.answers(case)]
    return min(answers, key=lambda entry: entry.distance(case, here), default=None)


def _costs(request: Request, entry: wisdom.WisdomEntry, able: Sequence[Kernel]) -> dict[Kernel, float]:
    n = request.case.n
    costs = {}
    for kernel in [variant for one in able for variant in _measured(one, entry)]:
        if points := entry.curves.get(kernel.key):
            first = points[-1].first / request.criteria.calls if request.criteria.calls else 0.0
            costs[kernel] = wisdom.seconds_at(points, n) + _conversion(request, entry, kernel) + first
    return costs


def _measured(kernel: Kernel, entry: wisdom.WisdomEntry) -> Iterator[Kernel]:
    """Yield the kernel, and it with each of the settings that it was measured with."""
    yield kernel
    plain = Key.parse(kernel.key)
    keys = map(Key.parse, entry.curves)
    for key in keys:
        if key.settings and not key.out and key.plain == plain:
            try:
                yield kernel_by_key(str(key))
            except ValueError as fault:
                wisdom.pass_over(f"the times of {key} are", str(fault))  # measured by a version that has the setting


def _conversion(request: Request, entry: wisdom.WisdomEntry, kernel: Kernel) -> float:
    if kernel.backend.host is request.library:
        return 0.0
    # numpy arrays are what every library is converted from and to: there is no `convert.numpy`.
    curves = [entry.curves.get(CONVERT + library.name) for library in (kernel.backend.host, request.library)]
    return sum(wisdom.seconds_at(points, request.case.n) for points in curves if points)


def _cheapest(
    request: Request,
    entry: wisdom.WisdomEntry,
    source: str,
    costs: dict[Kernel, float],
    refused: list[tuple[Kernel, str]],
) -> Choice:
    fitting, limit = dict(costs), request.criteria.max_bytes
    # Kernels for modules are brought within the limit by their chunks, when they are bound.
    if limit is not None and not isinstance(request.case.problem, BlackBox):
        for kernel in costs:
            peak = wisdom.bytes_at(entry.curves[kernel.key], request.case.n)
            if peak is None or peak > limit:
                known = "its memory was not measured" if peak is None else f"it needs about {peak:.3g} bytes"
                refused.append((kernel, f"{known}, max_bytes={limit}"))
                del fitting[kernel]
    if not fitting:
        listed = "; ".join(f"{kernel.key}: {reason}" for kernel, reason in refused)
        raise ValueError(f"no kernel is known to stay within max_bytes={limit}: {listed}")
    tied = [kernel for kernel, cost in fitting.items() if cost <= min(fitting.values()) * (1 + TIE)]
    return ranked_choice(min(tied, key=lambda k: k.preference), f"{source} ({_about(entry)})", fitting, refused)


def ranked_choice(
    kernel: Kernel, source: str, costs: Mapping[Kernel, float], refused: Iterable[tuple[Kernel, str]]
) -> Choice:
    """Return the choice of a kernel by what it and others cost.

    Args:
        kernel: The winner.
        source: Where the costs come from.
        costs: Seconds per call.
        refused: Kernels that cannot do the case, with the reason.
    """
    return Choice(kernel, source, tuple(sorted(costs.items(), key=lambda item: item[1])), tuple(refused))


def _rivals(request: Request, entry: wisdom.WisdomEntry, choice: Choice, able: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """Name what may be faster than the choice after all: what was not measured, and all where the size is a guess."""
    if not isinstance(request.case.problem, BlackBox) or request.criteria.results is not None:
        return ()
    rivals = [one for one in able if one.pays_after and one.key not in entry.curves]
    if _is_far(request, entry, choice.kernel):
        near = [one for one, cost in choice.costs if cost <= choice.costs[0][1] * NEAR_COST]
        rivals += [by_rule(request.case, request.library, able)[0], *near[: MOST_RIVALS + 1]]
    quick = [one for one in dict.fromkeys(rivals) if not (one is choice.kernel or one.compiles or one.loops)]
    return tuple(quick[:MOST_RIVALS])


def _about(entry: wisdom.WisdomEntry) -> str:
    case = entry.case
    size = f"{counted(case.features, 'feature')}, {counted(case.threads, 'thread')}"
    return f"{entry.machine}, {entry.started[:10]}, {size}, layout {case.layout}"


def explain(request: Request, choice: Choice) -> str:
    """Put the choice into words: the winner, its lead, every other kernel's cost and every refusal."""
    case = request.case
    lines = [f"{choice.kernel.key} for n = {case.n}, by {choice.source}"]
    costs = dict(choice.costs)
    own = costs.get(choice.kernel)
    for kernel, cost in choice.costs:
        if own is not None and kernel is not choice.kernel:
            ratio = cost / own
            note = " (a tie: the one with fewer dependencies is preferred)" if ratio <= 1 + TIE else ""
            lines.append(f"  {kernel.key}: {_seconds(cost)}, {ratio:.3g} times the winner's {_seconds(own)}{note}")
    lines += [f"  {kernel.key}: {reason}" for kernel, reason in choice.refused]
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
