"""The few numbers that the history keeps of a quantity, and one step's values from those of its backward passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import widen
from gradkernels.quantity import Moments
from gradkernels.tree import leaves


def summarized(name: str, value: Any) -> Callable[[], dict[str, float]]:
    """Return a function that gives a value's summary, which needs no more than its few numbers.

    Args:
        name: Of the quantity.
        value: It.
    """
    names, numbers = _numbers(name, value)
    return lambda: dict(zip(names, (numbers.tolist() if isinstance(numbers, torch.Tensor) else numbers), strict=True))


def _numbers(name: str, value: Any) -> tuple[Sequence[str], Any]:
    if value is None:
        return (), ()
    if isinstance(value, float):
        return ("value",), (value,)
    if isinstance(value, Moments):
        return ("norm of mean", "trace"), torch.stack([_length(value.mean), _sum(value.variance)])
    if name == "outer":
        return ("trace", "norm"), torch.stack([_sum(value.diagonal()), _length(value)])
    if name in ("gradient", "weighted_sum", "group_sums"):
        return ("norm",), _length(value)[None]
    if name == "norms" and isinstance(value, dict):
        parts = {f"{group} {of}": one for group, norms in value.items() for of, one in _spread(norms).items()}
    elif name == "gram":
        diagonal = widen(value).diagonal()
        parts = {
            "mean of diagonal": diagonal.sum() / max(1, len(value)),
            "mean": widen(value).sum() / max(1, value.numel()),
        }
    elif isinstance(value, dict):
        squares = [widen(one).flatten(1).square().sum(1) for one in value.values()]
        parts = _spread(torch.stack(squares).sum(0).sqrt())
    else:
        parts = _spread(value)
    return tuple(parts), torch.stack([one.double() for one in parts.values()])


def _spread(values: Array) -> dict[str, Array]:
    """Return mean, median and largest of some numbers; zeros of none."""
    flat = widen(values).flatten()
    if not len(flat):
        return dict.fromkeys(("mean", "median", "largest"), flat.new_zeros(()))
    return {"mean": flat.mean(), "median": flat.median(), "largest": flat.max()}


def _length(tree: Any) -> Array:
    return torch.stack([widen(one).square().sum().double() for one in leaves(tree)]).sum().sqrt()


def _sum(tree: Any) -> Array:
    return torch.stack([widen(one).sum().double() for one in leaves(tree)]).sum()


def joined_steps(name: str, sizes: Sequence[int], values: Sequence[Any]) -> Any:
    """Return a step's value from those of its backward passes; None where they do not give it.

    Args:
        name: Of the quantity.
        sizes: Number of samples of each backward pass.
        values: Of each.
    """
    pairs = [(n, value) for n, value in zip(sizes, values, strict=True) if value is not None]
    if len(pairs) == 1:
        return pairs[0][1]
    if not pairs or name in ("gram", "noise_scale", "outer"):
        return None
    shares = [n / max(1, sum(n for n, _ in pairs)) for n, _ in pairs]
    parts = [value for _, value in pairs]
    if name == "gradient":
        return _weighted(shares, parts)
    if name in ("weighted_sum", "group_sums"):
        return _weighted([1.0] * len(parts), parts)
    if name == "moments":
        mean = _weighted(shares, [one.mean for one in parts])
        around = [{key: one.variance[key] + (one.mean[key] - mean[key]).square() for key in mean} for one in parts]
        return Moments(mean, _weighted(shares, around))
    if isinstance(parts[0], dict):
        return {key: torch.cat([one[key] for one in parts]) for key in parts[0]}
    return torch.cat(parts)


def _weighted(shares: Sequence[float], parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {key: sum(share * one[key] for share, one in zip(shares, parts, strict=True)) for key in parts[0]}
