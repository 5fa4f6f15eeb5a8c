"""Whether samples stay in their places: libraries take the i-th entry that a layer gives for the i-th sample.

Where a model sorts, packs or picks, that is not so, and such rows are another sample's, without a word. What is looked
at is which sample an entry belongs to: two backward passes, of the sum of the losses and of their sum with a weight of
its own for each, must differ at every trained layer by exactly the weight of the sample whose place it is.

Which place data go to is a question of shapes alone in a model that calls nothing but the functions listed here; then
one look at a kind of batch answers for all of that kind. In any other it is asked for every batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.peers.reasons import trainable
from gradkernels.engines.peers.shape_only import MOVING, moves_by_shape
from gradkernels.names import counted
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Module
from gradkernels.tree import Tree, count, each, leaves, structure

MOST_BATCH_KINDS = 256
GOLDEN = 0.6180339887498949
SAME_VALUE = 1e-4
"""Of a sample's gradient; models compute parts in float32 even where the rest is in float64."""

COARSE = 2**-6
"""The same of a model that computes parts in half precision, by which near weights are not told apart."""
STEPS_FIRST = ("LSTM", "GRU", "RNN")
"""Layers of torch whose samples are along the second axis, but for an output with batch_first."""

LayerTensors = list[tuple[str, Array, int]]
"""What layers take and give: the words for it, the tensor, and the axis of its samples."""


class SampleOrder:
    """The kinds of batches whose samples are known to stay in their places.

    Args:
        name: Of the library, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept: set[Hashable] = set()

    def known(self, state: Hashable, x: Tree, y: Tree) -> bool:
        """Return whether there is nothing to look at: one sample, or a kind of batch whose samples are known to stay.

        Args:
            state: That the model is in.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        return count(y) < 2 or _kind(state, x, y) in self._kept

    def require(self, problem: ModuleProblem, state: Hashable, x: Tree, y: Tree) -> None:
        """Raise an Unfit unless each sample of the batch stays in its place in every trained layer.

        Args:
            problem: Its model, none of the caller's, is called; in at least float32, or weights are not told apart.
            state: That the model is in.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        watch = FunctionWatch()
        with self._listening(problem.model) as heard:
            given = each(partial(_given, heard), x)
            with watch, OperationWatch(watch):
                output = problem.output(given)
            losses = problem.losses(output, y)
        if self._all_told(losses, heard) and watch.shapes_alone:
            if len(self._kept) >= MOST_BATCH_KINDS:
                self._kept.clear()
            self._kept.add(_kind(state, x, y))

    @contextmanager
    def _listening(self, model: Module) -> Iterator[LayerTensors]:
        """Keep what trained layers take and give within the context."""
        heard: LayerTensors = []
        handles = [module.register_forward_hook(partial(self._hear, heard, name)) for name, module in trainable(model)]
        try:
            yield heard
        finally:
            for handle in handles:
                handle.remove()

    def _hear(self, heard: LayerTensors, name: str, module: Module, given: Any, output: Any) -> None:
        steps = _steps_first(module)
        for of, found in (("takes", given), ("gives", output)):
            for at, one in enumerate(pytree.tree_leaves(found, is_leaf=_packed)):
                if _packed(one):
                    raise self._unfit(f"{name} {of} a packed sequence")
                if isinstance(one, torch.Tensor) and one.requires_grad:
                    heard.append((f"{name} {of}", one, int(steps and not (at == 0 and module.batch_first))))
                if of == "takes":  # libraries look at the first one only
                    break

    def _all_told(self, losses: Array, heard: LayerTensors) -> bool:
        """Return whether each sample has a gradient wherever it is looked at, by which its place is told.

        Raises:
            Unfit: One has another's.
        """
        if not heard or not losses.requires_grad:
            return True
        n, tensors = len(losses), [one for _, one, _ in heard]
        weights = distinct_weights(n, losses)
        plain, weighted = (
            torch.autograd.grad(total, tensors, retain_graph=keep, allow_unused=True)
            for total, keep in ((losses.sum(), True), (losses @ weights, False))
        )
        sizes, off = list[Array](), list[tuple[str, Array]]()
        for (name, _, axis), one, other in zip(heard, plain, weighted, strict=True):
            if one is not None and other is not None:
                rows, scaled = (self._by_sample(name, axis, tensor, n) for tensor in (one, other))
                sizes.append(_size(rows))
                off.append((name, _size(scaled - weights.to(rows.dtype)[:, None] * rows)))
        return self._judged(sizes, off)

    def _judged(self, sizes: list[Array], off: list[tuple[str, Array]]) -> bool:
        """Judge each gradient's sizes by sample, and how far it is off its sample's weight: do all of them tell?"""
        if not sizes:
            return True
        # What is next to nothing beside a sample's largest gradient is rounding, which scales by no weight.
        floor = torch.stack(sizes).amax(0) * (SAME_VALUE / 10)
        for size, (name, difference) in zip(sizes, off, strict=True):
            if not bool((difference > SAME_VALUE * size + floor).any()):  # of what is no number nothing can be said
                continue
            if bool((difference > COARSE * size + floor).any()):
                raise self._unfit(f"in what {name} a sample has the place of another")
            raise self._unfit(f"the rounding of what {name} is so coarse that the samples cannot be told apart")
        return all(bool(((size > floor) & size.isfinite()).all()) for size in sizes)

    def _by_sample(self, name: str, axis: int, gradient: Array, n: int) -> Array:
        """Return a gradient as `(n, ...)`, in at least float32 where the model computes parts in less."""
        if gradient.ndim <= axis or gradient.shape[axis] != n:
            raise self._unfit(
                f"{name} {tuple(gradient.shape)}, in which no axis {axis} holds the {counted(n, 'sample')}"
            )
        return widen(gradient).movedim(axis, 0).unsqueeze(-1).flatten(1)

    def _unfit(self, what: str) -> Unfit:
        return Unfit(
            f"{self._name} takes the i-th entry that a layer gives for the i-th sample, but {what}; pass "
            "kernel='torch.loop', which takes one sample at a time"
        )


def _kind(state: Hashable, x: Tree, y: Tree) -> Hashable:
    return state, structure((x, y)), *((one.shape, one.dtype) for one in leaves((x, y)))


def _size(rows: Array) -> Array:
    return rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(len(rows))


class OperationWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks below a `FunctionWatch` for what it does not see: code in C++.

    Args:
        watch: Is told.
    """

    def __init__(self, watch: FunctionWatch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation as it is."""
        if func.overloadpacket.__name__.removesuffix("_") in MOVING:
            self._watch.shapes_alone = False
        return func(*args, **(kwargs or {}))


class FunctionWatch(TorchFunctionMode):
    """Looks whether all that a model calls sends data to places that depend on shapes alone.

    Attributes:
        shapes_alone: Whether that is so until now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shapes_alone = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call as it is."""
        if self.shapes_alone:
            self.shapes_alone = moves_by_shape(func, args)
        return func(*args, **(kwargs or {}))


def distinct_weights(n: int, like: Array) -> Array:
    """Return a weight between 1 and 2 for each of n samples, all different, neighbours by a lot."""
    steps = torch.arange(1, n + 1, dtype=torch.float64, device=like.device)
    return (1 + (steps * GOLDEN) % 1).to(like.dtype)


def _given(heard: LayerTensors, tensor: Array) -> Array:
    """Return an input whose gradient tells too where its samples went."""
    if not tensor.is_floating_point():
        return tensor
    # Not the leaf itself, which could not be written to in place.
    own = tensor.detach().requires_grad_().clone()
    heard.append(("the model takes", own, 0))
    return own


def _packed(one: Any) -> bool:
    return isinstance(one, torch.nn.utils.rnn.PackedSequence)


def _steps_first(module: Module) -> bool:
    return type(module).__name__ in STEPS_FIRST and hasattr(module, "batch_first")
