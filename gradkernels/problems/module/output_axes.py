"""Which tensors of a model's output have samples: those that are as long as the batch, for two numbers of samples.

One number is no evidence: a table of five entries in the output of five samples is as long as they are. What is found
is kept as long as the model lives, by the output's structure, and goes with copies of the model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

from gradkernels.problems.module.input_writes import cloned
from gradkernels.problems.module.split_output import Inseparable, has_attributes, untracked_shape
from gradkernels.problems.module.structure import Module
from gradkernels.tree import Tree, count, leaves, take

MOST_STRUCTURES = 64
VARIES = (
    "which parts of the model's output have samples {}, so that it cannot be taken apart into samples; the model has "
    "to be called on one sample at a time, as torch.vmap and torch.loop do. A model that gives a tensor, or a loss_fn "
    "of torch with one, does without"
)


class OutputAxes:
    """What is known of a model's outputs.

    Attributes:
        looked: Whether any was looked at.
    """

    def __init__(self) -> None:
        self.looked = False
        self._known: dict[Hashable, tuple[bool, ...] | None] = {}

    def learn(self, one: Tree, output: Tree, n: int) -> None:
        """Compare the output of one sample with that of n, more than one.

        Args:
            one: Output of one sample.
            output: Output of a batch.
            n: Number of its samples.
        """
        self.looked = True
        (structure, alone), (other, lengths) = _form(one), _form(output)
        has = tuple(a == 1 and b == n for a, b in zip(alone, lengths, strict=False))
        if structure != other:
            self._keep(structure, None)
        self._keep(other, has if structure == other and any(has) else None)

    def _keep(self, structure: Hashable, has: tuple[bool, ...] | None) -> None:
        if len(self._known) >= MOST_STRUCTURES:
            self._known.clear()
        self._known[structure] = has if self._known.get(structure, has) == has else None

    def have_samples(self, output: Tree, n: int) -> tuple[bool, ...]:
        """Tell of each tensor in an output of n samples whether it has them first.

        Raises:
            Inseparable: That is not known, or the output is not what it was when it was looked at.
        """
        structure, lengths = _form(output)
        long = tuple(length == n for length in lengths)
        if n < 2 or len(long) < 2:
            return long
        if structure not in self._known:
            if sum(long) > 1:
                raise Inseparable(VARIES.format("is not known of an output that was not looked at"))
            return long
        has = self._known[structure]
        if has is None or any(one and not is_long for one, is_long in zip(has, long, strict=True)):
            raise Inseparable(VARIES.format("varies from batch to batch"))
        return has


_PARTS: weakref.WeakKeyDictionary[Module, OutputAxes] = weakref.WeakKeyDictionary()


def output_axes_of(model: Module) -> OutputAxes:
    """Return what is known of a model's outputs."""
    return _PARTS.setdefault(model, OutputAxes())


def share_output_axes(other: Module, model: Module) -> None:
    """Know the same of a copy of a model from now on."""
    _PARTS[other] = output_axes_of(model)


def observe_output(model: Module, run: Callable[[Tree], Tree], x: Tree) -> None:
    """Look at the outputs of a model on one and two samples, unless it gives one tensor alone.

    Args:
        model: To which they belong.
        run: Its output for a batch, with the parameters that it holds.
        x: Inputs, samples first.
    """
    import torch

    parts = output_axes_of(model)
    if count(x) < 2:
        return
    # What raises here will where it matters.
    with suppress(Exception), torch.no_grad(), torch.random.fork_rng(_gpus(x)):
        one = run(cloned(take(x, slice(0, 1))))
        parts.looked = True
        if not isinstance(one, torch.Tensor):
            parts.learn(one, run(cloned(take(x, slice(0, 2)))), 2)


def _gpus(x: Tree) -> list[Any]:
    return [leaf.device for leaf in leaves(x)[:1] if leaf.device.type == "cuda"]


def _form(output: Tree) -> tuple[Hashable, list[int]]:
    """Return the structure of an output, and the length of each tensor in it; -1 for a number."""
    import torch
    from torch.utils import _pytree as pytree

    parts, spec = pytree.tree_flatten(output)
    form, lengths = list[Any](), list[int]()
    for part in parts:
        if isinstance(part, torch.Tensor):
            shape = untracked_shape(part)
            form.append(len(shape))
            lengths.append(shape[0] if shape else -1)
        elif has_attributes(part):
            inner, more = _form(vars(part))
            form.append((type(part), inner))
            lengths += more
        else:
            form.append(type(part))
    try:
        hash(spec)
    except TypeError:  # in some versions of torch
        return (str(spec), *form), lengths
    return (spec, *form), lengths
