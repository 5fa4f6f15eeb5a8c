"""The proof goes on: results of a running program, held against single-sample passes on samples drawn at random.

What is proven before the first call is proven on that call's data. So calls 1, 2, 4, 8, ... of a kind of input, and the
first after the model changed, are audited on the very batch: rows and norms of the result itself; for sums the same
kernel's norms of some samples drawn from the batch, among all of it at the first audits, and its sum over those alone.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.audited_call import AuditedCall
from gradkernels.check.modules.choose_check import result_check
from gradkernels.check.modules.held_passes import held_passes
from gradkernels.check.modules.result_checks import ResultCheck
from gradkernels.check.modules.sample_passes import CallerBatch, require_agreement
from gradkernels.check.modules.verdicts import is_definition
from gradkernels.dispatch.history import KernelHistory, built_once
from gradkernels.kernel import Kernel
from gradkernels.names import counted, pick
from gradkernels.problems.module.mixing.batch_loss import callers_depth
from gradkernels.quantity import QUANTITIES
from gradkernels.registry import kernels
from gradkernels.tree import count, leaves

MODES = ("schedule", "always", "off")
FULL_AUDITS = 5
"""Audits of a kind in which the norms behind a sum are looked at among all samples; its sum over some of them is in the
first and last of these, and in all later ones."""

SAMPLES = 3
"""Drawn in those; fewer later."""

_mode = "schedule"
_random = random.Random()


class AuditWarning(UserWarning):
    """A kernel that was proven computed wrong numbers and is set aside, or what it computes cannot be told."""


class audit:
    """Set when results are audited: as a call from now on, as a context inside it.

    Args:
        mode: `schedule`, calls 1, 2, 4, 8, ... of a kind of input and the first after the model changed; `always`;
            or `off`.

    Raises:
        ValueError: Another mode.
    """

    def __init__(self, mode: str) -> None:
        global _mode
        pick(dict.fromkeys(MODES), mode, "audit mode")
        self._before, _mode = _mode, mode

    def __enter__(self) -> None:
        """Enter the context; the mode holds since the call."""

    def __exit__(self, *_: object) -> None:
        """Set the mode of before the context."""
        global _mode
        _mode = self._before


def is_due(history: KernelHistory, changed: bool) -> bool:
    """Return whether this call, which is counted already, is audited.

    Args:
        history: How kernels did on its kind.
        changed: Whether the model is another than at the call before; of changes in a row the first, second, fourth,
            eighth, ... count.
    """
    history.changes = history.changes + 1 if changed else 0
    scheduled = not history.calls & (history.calls - 1) or (changed and not history.changes & (history.changes - 1))
    return _mode == "always" or (_mode == "schedule" and scheduled)


def repeats_the_proof(kernel: Kernel) -> bool:
    """Return whether an audit of sums over some samples does what a proof at the same call has just done."""
    return _mode == "schedule" and not kernel.quantity.by_sample


def audit_call(call: AuditedCall, history: KernelHistory) -> None:
    """Audit a call.

    Raises:
        Disagreement: It computed wrong numbers; says where and by how much.
    """
    n = count(call.batch.y)
    if not n or is_definition(call.kernel):
        return
    some = SAMPLES if history.audits < FULL_AUDITS else 1 if call.kernel.quantity.by_sample else 2
    chosen, call = _draw(n, some), call.with_few_others(lambda others: _draw(others, some))
    if call.batch.problem.randomness == "different":
        call = call.with_one_draw(chosen)
        chosen = [*range(len(chosen))]
    try:
        if call.kernel.quantity.by_sample:
            _parts(call, chosen)
        else:
            _sums(call, chosen, history.audits)
    except Disagreement:
        if _repeats(call.batch, chosen):
            raise
        _warn_once(
            history,
            f"{call.batch.problem.name} gives the same sample another gradient at each call, so that what is computed "
            "for it cannot be audited; have it compute the same again, or pass gk.audit('off')",
        )
    except Exception as error:  # of the model with one sample, say: the result is the kernel's all the same
        _warn_once(history, f"{call.kernel.key} cannot be audited here: {type(error).__name__}: {error}")
    finally:
        history.audits += 1


def _draw(n: int, some: int) -> list[int]:
    """Draw the numbers of some of n samples, each as likely as the others: one of each part of the batch."""
    edges = [n * part // some for part in range(some + 1)] if n > some else [*range(n + 1)]
    return [_random.randrange(low, high) for low, high in pairwise(edges)]


def _parts(call: AuditedCall, chosen: Sequence[int]) -> None:
    """Audit what the result has of the drawn samples."""
    batch, quantity = call.batch, call.kernel.quantity
    options, held = quantity.part(call.options, list(chosen)), held_passes(quantity, batch, chosen, _random)

    def results() -> list[ResultCheck]:
        label = f"{call.kernel.key} on {batch.problem.name}, n={count(batch.y)}, {batch.dtype}"
        places = held.places(chosen)
        return [result_check(quantity, call.result, places, len(chosen), options, held.batch, label)]

    require_agreement(held.batch, held.chosen, results)


def _sums(call: AuditedCall, chosen: Sequence[int], audits: int) -> None:
    """Audit the kernel on the drawn samples, and its like for their norms among all samples, by turns."""
    batch, kernel = call.batch, call.kernel
    norms = _norms(kernel, batch) if audits < FULL_AUDITS else None
    of_some = norms is None or audits in (0, FULL_AUDITS - 1)
    # What is compiled for each size is called with as many samples again: the drawn ones several times.
    repeated = [chosen[i % len(chosen)] for i in range(count(batch.y))] if kernel.compiles else chosen
    times = [repeated.count(i) for i in chosen]
    some = batch.of(repeated)
    repeats = kernel.quantity.part(call.options, repeated)
    found = call.compute(some.theta, some.x, some.y, **repeats) if of_some else None
    label = f"{kernel.key} on {batch.problem.name}, {len(chosen)} of {counted(count(batch.y), 'sample')}, {batch.dtype}"

    def results() -> list[ResultCheck]:
        made = []
        if of_some:
            n, options = len(repeated), kernel.quantity.part(call.options, np.repeat(chosen, times))
            places = sorted(range(n), key=lambda i: i % len(chosen))
            made.append(result_check(kernel.quantity, found, places, n, options, batch, label, times))
        if norms is not None:
            says = f"{kernel.way} on {batch.problem.name}, n={count(batch.y)}, {batch.dtype}"
            made.append(result_check(QUANTITIES["norms"], norms, chosen, len(chosen), {}, batch, says))
        return made

    require_agreement(batch, chosen, results)


def _norms(kernel: Kernel, batch: CallerBatch) -> Any:
    """Compute the norms of all samples by the same way; None where it has none."""
    way = kernel.name.rstrip("+")
    for one in kernels(quantity="norms"):
        if one.backend is kernel.backend and one.name.rstrip("+") == way:
            return built_once(one, batch.problem)(batch.theta, batch.x, batch.y)
    return None


def _repeats(batch: CallerBatch, chosen: Sequence[int]) -> bool:
    """Return whether single-sample passes give the same gradients again."""
    (one,), (other,) = ([*batch.sample_gradients(chosen[:1])] for _ in range(2))
    return all((a == b).logical_or(a.isnan() & b.isnan()).all() or
               float((a - b).abs().max()) <= 1e-3 * one.length
               for a, b in zip(leaves(one.row), leaves(other.row), strict=True))  # fmt: skip


def _warn_once(history: KernelHistory, says: str) -> None:
    if says not in history.warned:
        history.warned.add(says)
        warnings.warn(says, AuditWarning, stacklevel=callers_depth())


def warn_set_aside(history: KernelHistory, kernel: Kernel, fault: Disagreement) -> None:
    """Say once that a kernel is set aside, since when, and how to report it.

    Args:
        history: How kernels did on the kind of input.
        kernel: That computed wrong numbers.
        fault: Where, and by how much.
    """
    import torch

    calls = history.unaudited
    since = (
        f"{counted(calls, 'call')} since the last audit went unaudited" if calls else "no call before it went unaudited"
    )
    _warn_once(
        history,
        f"{kernel.key} computed wrong numbers and is set aside: {fault}. This call, number {history.calls} of its "
        f"kind, is computed by another kernel; {since}. Please report this sentence to the authors of gradkernels, "
        f"with the model's layers and torch {torch.__version__}",
    )


@contextmanager
def seeded_audits(seed: int) -> Iterator[None]:
    """Open a context in which the samples that are audited follow from a seed."""
    state = _random.getstate()
    _random.seed(seed)
    try:
        yield
    finally:
        _random.setstate(state)
