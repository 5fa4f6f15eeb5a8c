"""The proof that a kernel computes a module's gradients, on a few samples of the caller's, before it is first used.

It is kept by what it is a proof for: the kind of the model (`gradkernels.problems.module.mode_key.tracker`), its loss,
and the structure, dtypes and ranks of the data, not their sizes. Only the verdict is kept, and only as long as the
model lives. A kernel that is composed from rows is proven by its rows, for all quantities at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.independence import require_independent_samples
from gradkernels.check.modules.result_checks import result_check
from gradkernels.check.modules.result_structure import require_structure
from gradkernels.check.modules.sample_passes import (
    FEWEST,
    ROWS_BYTES,
    SAMPLES,
    CallerBatch,
    bytes_per_row,
    choose_samples,
    require_agreement,
)
from gradkernels.kernel import Compute, Kernel
from gradkernels.key import Key
from gradkernels.problems.module.input_writes import versions
from gradkernels.problems.module.mode_key.counters import loss_key
from gradkernels.problems.module.structure import preserved_rng
from gradkernels.quantity import Quantity
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree, count, leaves, structure

INSPECTED = "inspected"
MOST_VERDICTS = 1024
_VERDICTS: weakref.WeakKeyDictionary[Any, dict[Hashable, str]] = weakref.WeakKeyDictionary()


def verdicts(problem: Any) -> dict[Hashable, str]:
    """What was found for the model: nothing where a kernel is proven, else why not; kept while the model lives."""
    found = _VERDICTS.setdefault(problem.model, {})
    if len(found) > MOST_VERDICTS:
        found.clear()
    return found


def proof_kind(problem: Any, stamp: Any, theta: Tree, x: Tree, y: Tree) -> Hashable:
    """What one proof answers for: model, loss and data of a kind, whatever their sizes, but for one sample alone."""
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
        known[key] = str(fault)
        raise
    known[key] = ""
    return True


def _prove_in_an_order(kernel: Kernel, batch: CallerBatch, compute: Compute, chosen: list[int], tight: bool) -> None:
    """Prove it on these samples, or on the same in the order that they came in where the model asks for one."""
    try:
        _prove(*_by_rows(kernel, compute, batch.of(chosen)), tight=tight)
    except Exception as fault:
        if isinstance(fault, Disagreement) or not _asks_for_order(batch, sorted(chosen)):
            raise
        _prove(*_by_rows(kernel, compute, batch.of(sorted(chosen))), backwards=False, tight=tight)


def _asks_for_order(batch: CallerBatch, chosen: Sequence[int]) -> bool:
    """Whether the model takes these samples in the order that they came in, but not in the reverse."""
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
    if (INSPECTED, kind) in known or not (chosen := choose_samples(batch, FEWEST)):
        return
    chosen = chosen if SAMPLES * bytes_per_row(batch) <= ROWS_BYTES else chosen[:2]
    sample = batch.of(sorted(chosen))  # a model may ask for an order, such as the longest first
    require_independent_samples(batch.problem, batch.theta, sample.x, sample.y)
    known[INSPECTED, kind] = ""


def set_aside(kernel: Kernel, kind: Hashable, problem: Any, says: str) -> None:
    """Take a kernel for wrong from now on, for this kind of batch."""
    verdicts(problem)[kind, _proven_as(kernel)] = says


def is_definition(kernel: Kernel) -> bool:
    """Whether it takes one sample at a time, as what everything is held against does."""
    plus = "+" if kernel.composed else ""
    return (
        kernel == kernel_by_key(f"torch.loop{plus}.{kernel.quantity.name}") if kernel.name == f"loop{plus}" else False
    )


def _proven_as(kernel: Kernel) -> Kernel:
    """The kernel whose proof is this one's: of any chunk, and the rows of what is composed from them."""
    plain = replace(kernel, set_options=tuple(pair for pair in kernel.set_options if pair[0] != "chunk"))
    if plain.composed:
        try:
            whole, rows = kernel_by_key(plain.key), kernel_by_key(f"{Key.parse(plain.key).plain_way}.per_sample")
        except ValueError:  # it is not registered
            return plain
        return rows if whole == plain else plain
    return plain


def _by_rows(kernel: Kernel, compute: Compute, sample: CallerBatch) -> tuple[Kernel, Compute, CallerBatch]:
    """What is proven in the kernel's place; with one draw for all samples."""
    built = sample.problem
    if built.randomness == "different":
        sample = replace(sample, problem=replace(built, randomness="same"))
    rows = _proven_as(kernel)
    if rows.quantity != kernel.quantity:
        return rows, rows.build(sample.problem), sample
    return kernel, compute if sample.problem is built else kernel.build(sample.problem), sample


def _prove(kernel: Kernel, compute: Compute, sample: CallerBatch, backwards: bool = True, tight: bool = False) -> None:
    """Two calls, the first on the samples in reverse order if the model takes them so; nothing is changed or kept.

    Args:
        kernel: What is proven.
        compute: It, built.
        sample: The samples.
        backwards: Whether the model takes them in reverse order.
        tight: Whether one result at a time is to be in memory, which takes twice the passes.
    """
    sample = replace(sample, theta=_nowhere_zero(sample.theta))
    n, problem, data = count(sample.y), sample.problem, (sample.theta, sample.x, sample.y)
    label = f"{kernel.key} on {problem.name}, n={n}, {sample.dtype}"
    state, written = problem.state(), versions(data)
    order = range(n)[::-1] if backwards else range(n)
    options = _options(kernel.quantity, sample)

    def agree(*some: tuple[Any, Sequence[int], dict[str, float]]) -> None:
        for result, _, _ in some:
            require_structure(result, kernel.quantity, sample, label)
        require_agreement(
            sample,
            range(n),
            lambda: [result_check(kernel.quantity, one, at, n, given, sample.dtype, label) for one, at, given in some],
        )

    turned = sample.of(order)
    first = compute(sample.theta, turned.x, turned.y, **options[0])
    if tight:
        agree((first, order, options[0]))
        del first
        agree((_second(kernel, compute, sample, options[1]), range(n), options[1]))
    else:
        before = _sums(first)
        agree((first, order, options[0]), (_second(kernel, compute, sample, options[1]), range(n), options[1]))
        if before != _sums(first):
            raise Disagreement(f"{kernel.key} wrote over the result of an earlier call")
    if written != versions(data):
        raise Disagreement(f"{kernel.key} changed one of its inputs")
    now = problem.state()
    if changed := [name for name in state.keys() | now.keys() if state.get(name) != now.get(name)]:
        raise Disagreement(f"{kernel.key} left the model changed: {', '.join(sorted(changed)[:4])}")


def _sums(result: Any) -> list[str]:
    """Of each tensor, as text: NaN is not equal to itself."""
    return [str(leaf.sum().item()) for leaf in leaves(result)]


def _options(quantity: Quantity, sample: CallerBatch) -> tuple[dict[str, float], dict[str, float]]:
    """Of the two calls: some rows clipped, and none."""
    if "max_norm" not in quantity.options:
        return {}, {}
    (single,) = sample.singles([0])
    if not 0 < single.length < float("inf"):
        return {"max_norm": 1.0}, {"max_norm": float("inf")}
    return {"max_norm": 0.9 * single.length}, {"max_norm": float("inf")}


def _second(kernel: Kernel, compute: Compute, sample: CallerBatch, options: dict[str, float]) -> Any:
    if not kernel.out:
        return compute(sample.theta, sample.x, sample.y, **options)
    first = leaves(sample.theta)[0]
    blank = kernel.quantity.blank(count(sample.y), sample.theta)
    like = sample.theta if isinstance(blank, dict) else {None: first}
    made = {name: one.detach().new_full(_shape(blank, name), float("nan")) for name, one in like.items()}
    out = made if isinstance(blank, dict) else made[None]
    if compute(sample.theta, sample.x, sample.y, out=out) is not out:
        raise Disagreement(f"{kernel.key}: out= was given but is not what came back")
    return out


def _shape(blank: Any, name: Any) -> Any:
    return blank[name].shape if name is not None else blank.shape


def _nowhere_zero(theta: Any) -> Any:
    """The parameters, but those that are zero, which hide what passes through them; and one of another value."""
    import torch

    generator = torch.Generator().manual_seed(1)
    smallest = min(theta, key=lambda name: theta[name].numel())
    made = {}
    for name, one in theta.items():
        value = one.detach()
        if not value.any():
            noise = torch.randn(value.shape, generator=generator).to(value)
            made[name] = noise.mul_(0.01)
        else:
            made[name] = value * 1.1 if name == smallest else one
    return made
