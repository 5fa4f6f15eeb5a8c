"""How results of blocks become the result of all rows: in float64, and in the order of the blocks alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gradkernels.quantities.shared.arguments import group_numbers
from gradkernels.quantity import Floats, Options, quantity


class Means(NamedTuple):
    """Mean and biased variance over some rows.

    Attributes:
        rows: Their number, at least 1.
        mean: Of theta's shape.
        variance: Likewise; None where it is not asked for.
    """

    rows: int
    mean: Floats
    variance: Floats | None


class SumsByGroup(NamedTuple):
    """Sums over the rows of those groups that have any.

    Attributes:
        numbers: Of the groups, ascending, `(m,)`.
        sums: `(m, *theta.shape)`.
    """

    numbers: Any
    sums: Floats


def _given(options: Options, n: int, theta: Any) -> tuple[Options, Any]:
    return options, None


@dataclass(frozen=True)
class Merging:
    """From results of blocks to that of all rows.

    Attributes:
        local: Name of the quantity that is computed of each block.
        part: `part(result, n, note)`, what is passed on of a block of n rows.
        merged: `merged(parts)`, that of several in a row.
        finished: `finished(part, shape)`, the result of all rows, float64.
        narrowed: `narrowed(options, n, theta)`, a block's own options as `local` takes them, and a note for `part`.
        sides: Whether norms of each sample stand side by side beside it.
    """

    local: str
    part: Callable[[Any, int, Any], Any]
    merged: Callable[[list[Any]], Any]
    finished: Callable[[Any, tuple[int, ...]], Floats]
    narrowed: Callable[[Options, int, Any], tuple[Options, Any]] = _given
    sides: bool = False


def _sum(result: Any, n: int, note: Any) -> Floats:
    return np.asarray(result, np.float64)


def _clipped(result: Any, n: int, note: Any) -> Floats:
    return np.asarray(result.sum, np.float64)


def _added(parts: list[Floats]) -> Floats:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _itself(part: Floats, shape: tuple[int, ...]) -> Floats:
    return part


def _mean(result: Any, n: int, note: Any) -> Means:
    return Means(n, np.asarray(result, np.float64), None)


def _moments(result: Any, n: int, note: Any) -> Means:
    return Means(n, *(np.asarray(part, np.float64) for part in result))


def _averaged(parts: list[Means]) -> Means:
    """Merge means, and variances around them (Chan, Golub & LeVeque 1983): nothing large is subtracted."""
    rows = sum(part.rows for part in parts)
    mean = _added([part.rows * part.mean for part in parts]) / rows
    if parts[0].variance is None:
        return Means(rows, mean, None)
    around = [part.rows * (part.variance + (part.mean - mean) ** 2) for part in parts if part.variance is not None]
    return Means(rows, mean, _added(around) / rows)


def _mean_alone(part: Means, shape: tuple[int, ...]) -> Floats:
    return part.mean


def _mean_and_variance(part: Means, shape: tuple[int, ...]) -> Any:
    assert part.variance is not None
    return np.stack([part.mean, part.variance])


def _own_groups(options: Options, n: int, theta: Any) -> tuple[Options, Any]:
    """Give the groups of a block numbers from 0 on, where there are more groups than the block has rows."""
    checked = quantity("group_sums").checked(options, n, theta, lambda x, y: (x, y))
    if checked["count"] <= n:
        return checked, np.arange(checked["count"])
    numbers, groups = np.unique(checked["groups"], return_inverse=True)
    return {"groups": groups, "count": n}, numbers


def _any_groups(options: Options, n: int, theta: Any) -> tuple[Options, Any]:
    numbers, groups = np.unique(group_numbers(options["groups"], n, theta), return_inverse=True)
    return {"groups": groups, "count": n}, numbers


def _group_sums(result: Any, n: int, numbers: Any) -> SumsByGroup:
    return SumsByGroup(numbers, np.asarray(result[: len(numbers)], np.float64))


def _united(parts: list[SumsByGroup]) -> SumsByGroup:
    numbers = np.unique(np.concatenate([part.numbers for part in parts]))
    sums = np.zeros((len(numbers), *parts[0].sums.shape[1:]))
    for part in parts:
        sums[np.searchsorted(numbers, part.numbers)] += part.sums
    return SumsByGroup(numbers, sums)


def _of_every_group(part: SumsByGroup, shape: tuple[int, ...]) -> Floats:
    sums = np.zeros(shape)
    sums[part.numbers] = part.sums
    return sums


def _outer_of_groups(part: SumsByGroup, shape: tuple[int, ...]) -> Floats:
    flat = part.sums.reshape(len(part.sums), -1)
    return flat.T @ flat


_BY_NAME = {
    "gradient": Merging("gradient", _mean, _averaged, _mean_alone),
    "moments": Merging("moments", _moments, _averaged, _mean_and_variance),
    "group_sums": Merging("group_sums", _group_sums, _united, _of_every_group, _own_groups),
    **{name: Merging(name, _sum, _added, _itself) for name in ("clipped_sum", "weighted_sum", "outer")},
    "clipped_sum_by": Merging("clipped_sum_by", _clipped, _added, _itself, sides=True),
}
_OUTER_OF_GROUPS = Merging("group_sums", _group_sums, _united, _outer_of_groups, _any_groups)


def merging_of(name: str, options: Options) -> Merging:
    """Return how a quantity's results of blocks are merged.

    Args:
        name: Of the quantity.
        options: Of the call.

    Raises:
        ValueError: No way is known.
    """
    if name == "outer" and "groups" in options:
        return _OUTER_OF_GROUPS
    if name not in _BY_NAME:
        known = ", ".join(sorted(_BY_NAME))
        raise ValueError(f"{name} of dask arrays is not known to be a sum or mean over blocks, as {known} are; compute "
                         "x and y first, or ask for a quantity of each sample")  # fmt: skip
    return _BY_NAME[name]
