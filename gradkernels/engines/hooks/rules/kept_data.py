"""Uses of a layer in another pass of the same graph, made from what autograd's nodes have kept of their calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.arithmetic import SharedLookup
from gradkernels.engines.hooks.rules.linear.convolution import Convolution
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable
from gradkernels.engines.hooks.rules.normalization import ChannelNormalization, FeatureNormalization

KeptData = Sequence[Array]
"""What a node has kept of its call's data."""


class Remake(NamedTuple):
    """How a use is made again, in another pass.

    Attributes:
        kept: Gives what a node has kept; while a backward pass has not gone through it.
        use: Makes the use of that.
    """

    kept: Callable[[Any], KeptData]
    use: Callable[[KeptData], ParameterUse]


def remake_of(use: ParameterUse, node: Any, shape: torch.Size) -> Remake | None:
    """Return what makes a use of other passes of the same graph; None where autograd does not keep enough for that.

    What it holds of this pass are parameters and sizes.

    Args:
        use: Of a pass that was followed.
        node: Of its call, in autograd's graph.
        shape: Of the call's output, samples first.
    """
    kinds = {
        Linear: _linear, FeatureNormalization: _normalization, ChannelNormalization: _groups,
        Convolution: _convolution, EmbeddingTable: _table,
    }  # fmt: skip
    if type(use) is SharedLookup:  # its words are the same in all passes, which their own node tells
        return Remake(lambda node: (), lambda kept: use)
    if type(use) not in kinds or not all(target.direct for target in use.targets.values()):
        return None
    return kinds[type(use)](use, node, shape)


def _linear(use: Any, node: Any, shape: torch.Size) -> Remake | None:
    viewed = node.name() in ("UnsafeViewBackward0", "ViewBackward0")
    product = node.next_functions[0][0] if viewed else node
    attribute = {"AddmmBackward0": "_saved_mat1", "MmBackward0": "_saved_self"}.get(product.name())
    factors, targets, flipped = use.factors(torch.empty(shape, device="meta")), use.targets, use.flipped
    size = factors[not flipped].shape
    if attribute is None or getattr(product, attribute) is None:  # not kept for a bias alone
        return None

    def kept(node: Any) -> KeptData:
        product = node.next_functions[0][0] if viewed else node
        return (getattr(product, attribute).detach().view(size),)

    return Remake(kept, lambda kept: Linear(targets, kept[0], flipped))


def _normalization(use: Any, node: Any, shape: torch.Size) -> Remake | None:
    targets = use.targets
    if node.name() != "NativeLayerNormBackward0" or node._saved_input is None:
        return None

    normalized_shape = node._saved_normalized_shape

    def made(kept: KeptData) -> ParameterUse:
        a, mean, scale = kept
        return FeatureNormalization(targets, a, {"normalized_shape": normalized_shape, "mean": mean, "scale": scale})

    return Remake(_normalized, made)


def _normalized(node: Any) -> KeptData:
    """Return input, mean and scale of a normalization."""
    return node._saved_input.detach(), node._saved_result1.detach(), node._saved_result2.detach()


def _groups(use: Any, node: Any, shape: torch.Size) -> Remake | None:
    targets = use.targets
    if node.name() != "NativeGroupNormBackward0" or node._saved_input is None or len(node._saved_input) != shape[0]:
        return None

    def made(kept: KeptData) -> ParameterUse:
        a, mean, scale = kept
        return ChannelNormalization(targets, a, {"input": a, "mean": mean, "scale": scale})

    return Remake(_normalized, made)


def _convolution(use: Any, node: Any, shape: torch.Size) -> Remake | None:
    targets = use.targets
    if node.name() != "ConvolutionBackward0" or node._saved_input is None or node._saved_weight is None:
        return None

    given = {key: getattr(node, f"_saved_{key}") for key in ("stride", "padding", "dilation", "groups")}

    def kept(node: Any) -> KeptData:
        return node._saved_input.detach(), node._saved_weight.detach()

    return Remake(kept, lambda kept: Convolution(targets, kept[0], {"weight": kept[1], **given}))


def _table(use: Any, node: Any, shape: torch.Size) -> Remake | None:
    targets, n = use.targets, shape[0]
    if node.name() != "EmbeddingBackward0":
        return None

    padding = node._saved_padding_idx

    def made(kept: KeptData) -> ParameterUse:
        words = kept[0].reshape(n, -1)
        return EmbeddingTable(targets, words, words != padding if 0 <= padding < 1 << 62 else None)

    return Remake(lambda node: (node._saved_indices.detach(),), made)


def agrees(use: ParameterUse, other: ParameterUse) -> bool:
    """Return whether two uses hold the same data."""

    def same(one: Any, two: Any) -> bool:
        if isinstance(one, torch.Tensor) or isinstance(two, torch.Tensor):
            tensors = isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor)
            return tensors and one.shape == two.shape and torch.equal(one, two)
        if isinstance(one, list):
            return len(one) == len(two) and all(map(same, one, two))
        return True

    return vars(use).keys() == vars(other).keys() and all(
        same(one, vars(other)[name]) for name, one in vars(use).items()
    )
