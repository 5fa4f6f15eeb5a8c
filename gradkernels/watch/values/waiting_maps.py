"""Squared norms of linear maps of as many steps, and of look-ups, whose data and gradients are all there.

What a pass that was followed has told is laid out once: which maps have one input, and where products go. A look-up is
a map too, of words as columns with one entry: two steps have the product 1 where they are of one word, and 0 else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.arithmetic import SharedLookup
from gradkernels.engines.hooks.rules.kept_data import KeptData
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable
from gradkernels.watch.values import step_products
from gradkernels.watch.values.own_products import OwnProduct, own_product

Uses = Callable[[int], ParameterUse]
"""Makes a use, by its number."""


class WaitingUse(NamedTuple):
    """A use that is to come again in each pass.

    Attributes:
        use: Of the pass that was followed.
        shape: Of its gradient, samples first.
        kept: Data that it is made of again.
    """

    use: ParameterUse
    shape: torch.Size
    kept: KeptData

    @property
    def dtype(self) -> torch.dtype:
        """That of its first parameter."""
        return next(iter(self.use.targets.values())).tensor.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of an entry of it."""
        return self.dtype.itemsize


def is_of_few_words(one: WaitingUse) -> bool:
    """Return whether a use of a table is one whose words are looked at in pairs, each with a gradient of its own."""
    if len(one.shape) != 3 or one.shape[0] * one.shape[1] ** 2 * one.itemsize > step_products.STEP_PRODUCT_BYTES:
        return False
    if not isinstance(one.use, SharedLookup):
        return True
    g = next(iter(one.use.targets.values())).tensor.new_empty(one.shape)
    terms = one.use.terms(g)
    return terms.shape == g.shape and terms.data_ptr() == g.data_ptr()


class MapsOfSteps:
    """Linear maps of as many steps, by products of these, and look-ups of as many words: of the same word or not."""

    def __init__(self, planned: Sequence[WaitingUse], members: list[int]) -> None:
        mine = [planned[one] for one in members]
        self._members, self._places, self._first = members, list[int](), list[int]()
        self._tables = {at for at, one in zip(members, mine, strict=True) if not isinstance(one.use, Linear)}
        known = dict[Any, int]()
        for at, one in zip(members, mine, strict=True):
            key = at if at in self._tables else (one.kept[0].data_ptr(), one.kept[0].shape, one.kept[0].stride())
            if key not in known:
                known[key] = len(self._first)
                self._first.append(at)
            self._places.append(known[key])
        self._many = len(self._first) < len(members)
        biases = [len(one.use.targets) > 1 for one in mine]
        self._more = [1.0 * one for one in biases] if any(biases) else None
        n, steps = mine[0].shape[:2]
        self._shape, self._ways = (n, steps, steps), dict[int, OwnProduct]()

    def squares(self, kept: Sequence[KeptData], gradients: Sequence[Array], use: Uses) -> Array:
        """Return the sum of their squared norms.

        Args:
            kept: Inputs of all members.
            gradients: Of their outputs.
            use: Makes one of them.
        """
        of_g = self._of_gradients([gradients[one] for one in self._members])
        of_a = self._of_inputs(kept, of_g, use)
        if self._more is not None:
            of_a += of_a.new_tensor(self._more)[:, None, None]

        def term(layer: int) -> tuple[Any, Sequence[Any], Array]:
            made = use(at := self._members[layer])
            return made, [*made.targets], gradients[at]

        return step_products.squares_of_products(of_g, of_a, self._shape[1], term)

    def _of_gradients(self, gradients: Sequence[Array]) -> Array:
        """Return the products of each two steps, `(uses, n, t * t)`; what several uses get is multiplied once."""
        places = dict[int, int]()
        at = [places.setdefault(id(one), len(places)) for one in gradients]
        distinct = gradients if len(places) == len(gradients) else [*{id(one): one for one in gradients}.values()]
        products = gradients[0].new_empty((len(distinct), *self._shape))
        for one, out in zip(distinct, products.unbind(), strict=True):
            self._multiply(one, out)
        return products.flatten(2) if distinct is gradients else products.flatten(2)[at]

    def _of_inputs(self, kept: Sequence[KeptData], like: Array, use: Uses) -> Array:
        """Return the products of each two steps of the inputs, `(uses, n, t * t)`, and where two have one word.

        Args:
            kept: Inputs of all members.
            like: Of the dtype and on the device.
            use: Makes one of them.
        """
        first, places = (self._first, self._places) if self._has_the_same(kept) else (self._members, None)
        products = like.new_empty((len(first), *self._shape))
        for at, out in zip(first, products.unbind(), strict=True):
            if at in self._tables:
                out.copy_(_same_words(use(at)))
            else:
                self._multiply(kept[at][0], out)
        return products.flatten(2) if places is None or not self._many else products.flatten(2)[places]

    def _has_the_same(self, kept: Sequence[KeptData]) -> bool:
        """Return whether those maps have one input that had one in the pass that was followed."""
        for at, place in zip(self._members, self._places, strict=True):
            if (first := self._first[place]) != at:
                a, other = kept[at][0], kept[first][0]
                if a.data_ptr() != other.data_ptr() or a.stride() != other.stride() or a.shape != other.shape:
                    return False
        return True

    def _multiply(self, factor: Array, out: Array) -> None:
        width = factor.shape[2]
        if width not in self._ways:
            self._ways[width] = own_product(factor, out)
        self._ways[width](factor, out)


def _same_words(use: Any) -> Array:
    """Return which two words of each sample are the same, and count, `(n, t, t)`."""
    table = use if isinstance(use, EmbeddingTable) else use.table
    same: Array = table.words[:, :, None] == table.words[:, None, :]
    if table.factors is None:
        return same
    return same & table.factors[:, :, None] & table.factors[:, None, :]
