"""Which kernel to use: the cheapest one that is known, or a rule where nothing is, always with the reason why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gradkernels.dispatch import wisdom
from gradkernels.dispatch.costs import costs_of, is_far, sources_for
from gradkernels.dispatch.request import Request
from gradkernels.dispatch.rule import by_rule
from gradkernels.kernel import Kernel
from gradkernels.names import counted
from gradkernels.problems import BlackBox
from gradkernels.registry import kernels

TIE = 0.03
"""Costs this close are equal: measurements of one kernel differ by as much."""

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
        notes: What there is to be said of the sizes that were measured, where n is none of them.
    """

    kernel: Kernel
    source: str
    costs: tuple[tuple[Kernel, float], ...]
    refused: tuple[tuple[Kernel, str], ...]
    rivals: tuple[Kernel, ...] = ()
    notes: tuple[str, ...] = ()


def choose(request: Request, failed: Mapping[Kernel, str] | None = None) -> Choice:
    """Choose the fastest kernel for the request among those that can do it here.

    Order of trust: the caller's results file, this machine's saved wisdom, the shipped table, a rule. A table that was
    measured far from n only, or has one kernel alone, yields to one that was measured there.

    Args:
        request: What is to be computed.
        failed: Kernels that could not be proven for it, with the reason; not to be chosen.

    Raises:
        ValueError: No kernel can do the case (every reason is given), none is known to stay within
            `max_bytes`, or the results file has no proven row for the case.
    """
    every, sources, failed = kernels(request.case.problem, request.case.quantity), [*sources_for(request)], failed or {}
    reasons = _reasons(request, every, sources, failed)
    able = [kernel for kernel in every if reasons.get(kernel) == ()]
    # The cause first: what was tried and failed.
    order = sorted(every, key=lambda kernel: kernel not in failed)
    refused = [(kernel, "; ".join(reasons[kernel])) for kernel in order if reasons.get(kernel)]
    if not able:
        listed = "; ".join(reason for _, reason in refused) or "no kernel is declared for it"
        raise ValueError(f"nothing can compute {request.case.quantity} of {request.case.problem.name} here: {listed}")
    costs = {known.source: costs_of(request, known, able, failed) for known in sources}
    measured = [(known, [one.key for one in costs[known.source]]) for known in sources if costs[known.source]]
    if not measured:
        return _unmeasured(request, able, refused)
    known = wisdom.preferred(measured, request.case.n)
    choice = _cheapest(request, known, costs[known.source], refused)
    rivals, notes = _rivals(request, known.entry, choice, able), _notes(request, known, choice.kernel)
    return replace(choice, rivals=rivals, notes=notes)


def _unmeasured(request: Request, able: Sequence[Kernel], refused: Sequence[tuple[Kernel, str]]) -> Choice:
    """Choose by a rule.

    Args:
        request: What is to be computed.
        able: Kernels that can do it, at least one.
        refused: The others, with the reason.

    Raises:
        ValueError: There is a limit of memory, of which the rule knows nothing.
    """
    case = request.case
    if request.criteria.max_bytes is not None and not isinstance(case.problem, BlackBox):
        raise ValueError(
            f"max_bytes={request.criteria.max_bytes} was given, but no memory was measured for {case.quantity} of "
            f"{case.problem.name}; run `gradkernels run` and pass its CSV as results="
        )
    kernel, rule = by_rule(case, request.library, able)
    rivals = tuple(one for one in able if one.pays_after and one is not kernel)
    return Choice(kernel, f"a rule, as nothing was measured for it: {rule}", (), tuple(refused), rivals)


def _reasons(
    request: Request, every: Sequence[Kernel], sources: Sequence[wisdom.Known], failed: Mapping[Kernel, str]
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
    reasons |= {one: asked(one) for one in others if any(_may_win(request, known, one, able) for known in sources)}
    return reasons


def _may_win(request: Request, known: wisdom.Known, kernel: Kernel, able: Sequence[Kernel]) -> bool:
    """Tell whether a kernel was measured to be as fast as those that are able, or nearly, far from any size."""
    own, costs = costs_of(request, known, [kernel], {}), costs_of(request, known, able, {})
    factor = NEAR_COST if any(is_far(request, known.entry, one) for one in own) else 1 + TIE
    return bool(own) and min(own.values()) <= min(costs.values(), default=float("inf")) * factor


def _cheapest(
    request: Request, known: wisdom.Known, costs: dict[Kernel, float], refused: list[tuple[Kernel, str]]
) -> Choice:
    fitting, limit = dict(costs), request.criteria.max_bytes
    # Kernels for modules are brought within the limit by their chunks, when they are bound.
    if limit is not None and not isinstance(request.case.problem, BlackBox):
        for kernel in costs:
            peak = wisdom.bytes_at(known.entry.curves[kernel.key], request.case.n)
            if peak is None or peak > limit:
                needs = "its memory was not measured" if peak is None else f"it needs about {peak:.3g} bytes"
                refused.append((kernel, f"{needs}, max_bytes={limit}"))
                del fitting[kernel]
    if not fitting:
        listed = "; ".join(f"{kernel.key}: {reason}" for kernel, reason in refused)
        raise ValueError(f"no kernel is known to stay within max_bytes={limit}: {listed}")
    tied = [kernel for kernel, cost in fitting.items() if cost <= min(fitting.values()) * (1 + TIE)]
    kernel = min(tied, key=lambda k: k.preference)
    return ranked_choice(kernel, f"{known.source} ({_about(request, known, kernel)})", fitting, refused)


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
    if is_far(request, entry, choice.kernel):
        near = [one for one, cost in choice.costs if cost <= choice.costs[0][1] * NEAR_COST]
        rivals += [by_rule(request.case, request.library, able)[0], *near[: MOST_RIVALS + 1]]
    quick = [one for one in dict.fromkeys(rivals) if not (one is choice.kernel or one.compiles or one.loops)]
    return tuple(quick[:MOST_RIVALS])


def _about(request: Request, known: wisdom.Known, kernel: Kernel) -> str:
    case, points = known.entry.case, known.entry.curves[kernel.key]
    size = f"{counted(case.features, 'feature')}, {counted(case.threads, 'thread')}"
    origin = min(points, key=lambda point: wisdom.beyond([point], request.case.n)).origin
    source = "" if origin.source in known.source else f"{origin.source}, "
    return f"{known.entry.machine}, {source}{origin.started[:10]}, {size}, layout {case.layout}"


def _notes(request: Request, known: wisdom.Known, kernel: Kernel) -> tuple[str, ...]:
    """Say why the most trusted source does not decide, and where the time of the winner is a guess."""
    points, notes = known.entry.curves[kernel.key], [*known.passed_over]
    if is_far(request, known.entry, kernel):
        sizes = wisdom.span([point.n for point in points])
        notes.append(f"{kernel.key} was measured at n = {sizes} only, far from {request.case.n}: its time is a guess")
    return tuple(notes)


def explain(request: Request, choice: Choice) -> str:
    """Put the choice into words: the winner, its lead, every other kernel's cost and every refusal."""
    case = request.case
    lines = [f"{choice.kernel.key} for n = {case.n}, by {choice.source}"]
    lines += [f"  {note}" for note in choice.notes]
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
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
