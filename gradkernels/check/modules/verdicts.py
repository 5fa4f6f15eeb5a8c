"""Verdicts on kernels for a model: each is proven on a few samples of the caller's before it is first used, and once.

A verdict is kept by what it is true of: the kind of the model (`gradkernels.problems.module.mode_key.tracker`), its
loss, and the structure, dtypes and ranks of the data, not their sizes; and only as long as the model lives. A kernel
that is composed from per-sample gradients is proven by these, for all quantities at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.independence import require_independent_samples
from gradkernels.check.modules.proof import prove_on_samples
from gradkernels.check.modules.sample_passes import (
    FEWEST_SAMPLES,
    MOST_ROW_BYTES,
    MOST_SAMPLES,
    CallerBatch,
    bytes_per_row,
    choose_samples,
)
from gradkernels.kernel import Compute, Kernel
from gradkernels.key import Key
from gradkernels.problems.module.mode_key.counters import loss_key
from gradkernels.problems.module.random_state import preserved_rng
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree, count, leaves, structure

INSPECTED = "inspected"
MOST_VERDICTS = 1024
_set_aside = 0
_VERDICTS: weakref.WeakKeyDictionary[Any, dict[Hashable, str]] = weakref.WeakKeyDictionary()


def verdicts(problem: Any) -> dict[Hashable, str]:
    """Return why kernels are wrong for the model, nothing for those proven; kept while the model lives."""
    found = _VERDICTS.setdefault(problem.model, {})
    if len(found) > MOST_VERDICTS:
        found.clear()
    return found


def proof_kind(problem: Any, stamp: Any, theta: Tree, x: Tree, y: Tree) -> Hashable:
    """Return what one proof is good for: a kind of model, loss and data, whatever the sizes, but for one sample alone.

    Args:
        problem: A black box.
        stamp: Its `mode_key()`.
        theta: Parameters by name.
        x: Inputs.
        y: Targets.
    """
    of_loss = loss_key(problem.loss_fn), problem.reduction, problem.randomness, problem.seed, problem.shared
    tensors = [(leaf.dtype, leaf.ndim, leaf.device) for leaf in leaves((x, y))]
    dtypes = {(leaf.dtype, leaf.device) for leaf in leaves(theta)}
    return of_loss, stamp.kind, structure((theta, x, y)), *tensors, frozenset(dtypes), min(count(y), 2)


def require_proof(kernel: Kernel, kind: Hashable, batch: CallerBatch, compute: Compute, tight: bool = False) -> bool:
    """Prove a kernel for a kind of batch, unless it was before.

    Args:
        kernel: It.
        kind: By `proof_kind`.
        batch: The caller's.
        compute: The kernel, built for the batch's problem.
        tight: Whether memory is limited.

    Returns:
        Whether it was proven now, on samples of this very batch.

    Raises:
        Disagreement: It computes wrong numbers.
        Exception: Whatever the kernel raises.
    """
    known = verdicts(batch.problem)
    key = (kind, _proven_as(kernel))
    if says := known.get(key):
        raise Disagreement(says)
    if key in known or is_definition(kernel) or not (chosen := choose_samples(batch)):
        return False
    try:
        with preserved_rng(batch.theta):
            _prove_in_an_order(kernel, batch, compute, chosen, tight)
    except Disagreement as fault:
        set_aside(kernel, kind, batch.problem, str(fault))
        raise
    known[key] = ""
    return True


def _prove_in_an_order(kernel: Kernel, batch: CallerBatch, compute: Compute, chosen: list[int], tight: bool) -> None:
    """Prove a kernel on these samples, or on the same in the order that they came in where the model asks for one."""
    try:
        prove_on_samples(*_by_rows(kernel, compute, batch.of(chosen)), tight=tight)
    except Exception as fault:
        if isinstance(fault, Disagreement) or not _asks_for_order(batch, sorted(chosen)):
            raise
        prove_on_samples(*_by_rows(kernel, compute, batch.of(sorted(chosen))), backwards=False, tight=tight)


def _asks_for_order(batch: CallerBatch, chosen: Sequence[int]) -> bool:
    """Tell whether the model takes these samples in the order that they came in, but not in the reverse."""
    import torch

    def runs(order: Sequence[int]) -> bool:
        try:
            with torch.no_grad(), batch.problem.with_parameters(batch.theta):
                batch.problem.output(batch.of(order).x)
        except Exception:  # whatever the model says of it
            return False
        return True

    return runs(chosen) and not runs(chosen[::-1])


def require_sample_gradients(kind: Hashable, batch: CallerBatch) -> None:
    """Raise a ValueError where samples of this kind have no gradients of their own, whatever the kernel."""
    known = verdicts(batch.problem)
    if (INSPECTED, kind) in known or not (chosen := choose_samples(batch, FEWEST_SAMPLES)):
        return
    chosen = chosen if MOST_SAMPLES * bytes_per_row(batch) <= MOST_ROW_BYTES else chosen[:2]
    sample = batch.of(sorted(chosen))  # a model may ask for an order, such as the longest first
    require_independent_samples(batch.problem, batch.theta, sample.x, sample.y)
    known[INSPECTED, kind] = ""


def set_aside(kernel: Kernel, kind: Hashable, problem: Any, says: str) -> None:
    """Take a kernel for wrong from now on, for this kind of batch.

    Args:
        kernel: What is wrong.
        kind: By `proof_kind`.
        problem: A black box.
        says: Why.
    """
    global _set_aside
    verdicts(problem)[kind, _proven_as(kernel)] = says
    _set_aside += 1


def times_set_aside() -> int:
    """Return how often any kernel was taken for wrong in this process."""
    return _set_aside


def is_proven(kernel: Kernel, kind: Hashable, problem: Any) -> bool:
    """Tell whether a kernel needs no proof for a kind of batch any more, which was inspected too.

    Args:
        kernel: It.
        kind: By `proof_kind`.
        problem: A black box.
    """
    known = verdicts(problem)
    return (INSPECTED, kind) in known and (is_definition(kernel) or known.get((kind, _proven_as(kernel))) == "")


def is_definition(kernel: Kernel) -> bool:
    """Tell whether a kernel takes one sample at a time, as what everything is held against does."""
    plus = "+" if kernel.composed else ""
    return (
        kernel == kernel_by_key(f"torch.loop{plus}.{kernel.quantity.name}") if kernel.name == f"loop{plus}" else False
    )


def _proven_as(kernel: Kernel) -> Kernel:
    """Return the kernel whose proof counts: of any chunk, and the rows of what is composed from them alone."""
    plain = replace(kernel, set_options=tuple(pair for pair in kernel.set_options if pair[0] != "chunk"))
    if plain.composed and not plain.quantity.of_outputs:  # whose samples are not those of the batch
        try:
            whole, rows = kernel_by_key(plain.key), kernel_by_key(f"{Key.parse(plain.key).plain_way}.per_sample")
        except ValueError:  # it is not registered
            return plain
        return rows if whole == plain else plain
    return plain


def _by_rows(kernel: Kernel, compute: Compute, sample: CallerBatch) -> tuple[Kernel, Compute, CallerBatch]:
    """Return what is proven in the kernel's place; with one draw for all samples."""
    built = sample.problem
    if built.randomness == "different":
        sample = replace(sample, problem=replace(built, randomness="same"))
    rows = _proven_as(kernel)
    if rows.quantity != kernel.quantity:
        return rows, rows.build(sample.problem), sample
    return kernel, compute if sample.problem is built else kernel.build(sample.problem), sample
