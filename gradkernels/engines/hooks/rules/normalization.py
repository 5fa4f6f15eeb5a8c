"""Normalizations with a scale and a shift: rows are sums over places of g times the normalized input, and of g.

The mean and 1 / deviation that the forward pass needs are kept, so that the normalized input is one line.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.rules.materialized import MaterializedUse
from gradkernels.engines.hooks.rules.rule import LayerRule, NamedArguments, Targets, samples_first

EPS = 1e-5  # torch's own default
BATCH_STATISTICS = (
    "batch_norm with the statistics of the batch mixes its samples, no sample has a gradient of its own: call "
    "model.eval(), or use GroupNorm"
)
UPDATED = (
    "instance_norm updates its running statistics, so that what a sample gives depends on those before it: call "
    "model.eval(), or make it with track_running_stats=False"
)


class FeatureNormalization(MaterializedUse):
    """layer_norm or rms_norm of `(n, ..., *shape)` with a scale and a shift of that shape."""

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        self._shape = tuple(given["normalized_shape"])
        self._a, self._eps = self._steps(a), given.get("eps")
        self._statistics = [given[name].reshape(len(a), -1, 1) for name in ("mean", "scale") if name in given]

    @property
    def kind(self) -> Hashable:
        """What uses have in common that can be joined."""
        return self._shape, self._a.shape, self._a.dtype, self._eps, len(self._statistics), tuple(self.targets)

    @classmethod
    def joined(cls, uses: Sequence[FeatureNormalization]) -> FeatureNormalization:
        """Return one use whose samples are those of several uses of one kind, one use after the other."""
        found = copy.copy(uses[0])
        found._a = torch.cat([one._a for one in uses])
        found._statistics = [torch.cat(parts) for parts in zip(*(one._statistics for one in uses), strict=True)]
        return found

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Sum over the leading axes of a sample.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        g = self._steps(g)
        if target == "weight":
            g = self._normalized(at).mul_(g)
        return g.sum(1).view(len(g), *self._shape)

    def _steps(self, tensor: Array) -> Array:
        """Reshape to `(n, t, features)`."""
        features = 1
        for size in self._shape:
            features *= size
        return tensor.reshape(len(tensor), -1, features)

    def _normalized(self, at: slice) -> Array:
        a = self._a[at]
        if self._statistics:
            mean, scale = self._statistics
            return (a - mean[at]).mul_(scale[at])
        eps = torch.finfo(a.dtype).eps if self._eps is None else self._eps
        return a * (torch.linalg.vector_norm(a, dim=2, keepdim=True).square_() / a.shape[2] + eps).rsqrt_()


class ChannelNormalization(MaterializedUse):
    """group_norm, instance_norm or batch_norm of `(n, [steps,] channels, *places)`.

    The statistics are `(n, [steps,] groups)`, or `(channels,)` where they are not the sample's own.
    """

    def __init__(self, targets: Targets, a: Array, given: NamedArguments) -> None:
        self.targets = targets
        self._merged = a.ndim > given["input"].ndim
        self._a, self._mean, self._scale = self._places(a), given["mean"], given["scale"]
        self._own = self._mean.ndim > 1

    def rows(self, target: Any, g: Array, at: slice) -> Array:
        """Return (sum of g a - mean sum of g) / deviation, over places and steps.

        Where the statistics are a sample's own, the library's backward pass gives that, for all channels of all samples
        as those of one.

        Args:
            target: Key of the target.
            g: Gradient of the output, for samples `at`.
            at: Which samples.
        """
        g = self._places(g)
        if target == "bias":
            rows = g.sum(-1)
        elif self._own:
            rows = self._by_library(g, at)
        else:
            rows = torch.linalg.vecdot(g, self._a[at]).sub_(self._mean * g.sum(-1)).mul_(self._scale)
        return rows.sum(1) if self._merged else rows

    def _places(self, tensor: Array) -> Array:
        """Reshape to `(n, [steps,] channels, places)`."""
        return tensor.reshape(*tensor.shape[: 3 if self._merged else 2], -1)

    def _by_library(self, g: Array, at: slice) -> Array:
        channels, places = g.shape[:-1], g.shape[-1]
        side_by_side = [one.reshape(1, -1, places) for one in (g, self._a[at])]
        mean, scale = (one[at].reshape(1, -1) for one in (self._mean, self._scale))
        weight = g.new_empty(()).expand(channels.numel())  # nothing but its shape is read
        backward: Any = torch.ops.aten.native_group_norm_backward
        _, rows, _ = backward(
            *side_by_side, mean, scale, weight, 1, channels.numel(), places, mean.shape[1], (False, True, False)
        )
        result: Array = rows.view(channels)
        return result


def _layer_norm(given: NamedArguments) -> tuple[Array, dict[str, Array]]:
    eps, weight, bias = given.get("eps", EPS), given.get("weight"), given.get("bias")
    output, mean, scale = torch.native_layer_norm(given["input"], given["normalized_shape"], weight, bias, eps)
    return output, {"mean": mean, "scale": scale}


def _group_norm(given: NamedArguments) -> tuple[Array, dict[str, Array]]:
    x = given["input"].contiguous()
    n, channels = x.shape[:2]
    places = x[:1, :1].numel() if n else 1
    output, mean, scale = torch.native_group_norm(
        x, given.get("weight"), given.get("bias"), n, channels, places, given["num_groups"], given.get("eps", EPS)
    )
    return output, {"mean": mean, "scale": scale}


def _instance_norm(given: NamedArguments) -> tuple[Array, dict[str, Array]]:
    """Run instance_norm as group_norm with a group for each channel, unless it has learned its statistics."""
    if not given.get("use_input_stats", True):
        return torch.nn.functional.instance_norm(**given), {}
    if given.get("running_mean") is not None:
        raise Unfit(UPDATED)
    return _group_norm({**given, "num_groups": given["input"].shape[1]})


def _channels(targets: Targets, a: Array, given: NamedArguments) -> ChannelNormalization:
    """Make the use with the statistics of the sample, or those that were learned."""
    if given.get("training", False):
        raise Unfit(BATCH_STATISTICS)
    if "mean" not in given:
        given["mean"] = given["running_mean"].detach()
        given["scale"] = (given["running_var"].detach() + given.get("eps", EPS)).rsqrt_()
    return ChannelNormalization(targets, a, given)


def _before_features(axis: Axis, given: NamedArguments) -> bool:
    return axis.dim < given["input"].ndim - len(given["normalized_shape"])


SCALED = ("weight", "bias")
LAYER_NORM = LayerRule(
    ("input", "normalized_shape", *SCALED, "eps"), SCALED, FeatureNormalization, _before_features, forward=_layer_norm
)
RMS_NORM = LayerRule(
    ("input", "normalized_shape", "weight", "eps"), ("weight",), FeatureNormalization, _before_features
)
GROUP_NORM = LayerRule(("input", "num_groups", *SCALED, "eps"), SCALED, _channels, samples_first, forward=_group_norm)
LEARNED = ("input", "running_mean", "running_var", *SCALED)
INSTANCE_NORM = LayerRule(
    (*LEARNED, "use_input_stats", "momentum", "eps"), SCALED, _channels, samples_first, forward=_instance_norm
)
BATCH_NORM = LayerRule((*LEARNED, "training", "momentum", "eps"), SCALED, _channels, samples_first)
