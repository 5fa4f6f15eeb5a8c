"""Sums of gradients that are cut by their norms, of dask arrays: by a function of all norms, or with a look at them."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np

from gradkernels.fastest.compute import Chosen, compute
from gradkernels.fastest.odd_gradients import MOST_NAMED, RAISE, NonFiniteWarning, said_of_odd
from gradkernels.problems import Problem
from gradkernels.quantities.clipped_sum_by import Clipped
from gradkernels.quantities.shared.cut_options import DROP, PROPAGATE
from gradkernels.quantities.shared.rules import known_rule, limits
from gradkernels.scale.blocked import memoryless
from gradkernels.tree import Tree, leaves


def lazily_clipped(
    problem: Problem, arrays: tuple[Tree, Tree, Tree], chosen: Chosen, sample_weight: Any, **cut: Any
) -> Clipped[Any]:
    """Return the sum and the norms before the cut, which are computed later.

    Args:
        problem: A regression.
        arrays: `(theta, x, y)`, some of them dask's.
        chosen: What the kernel is chosen by.
        sample_weight: Factor of each sample's loss, or None.
        cut: `max_norm`, `by`, `rule`, `gamma` and `nonfinite`, as the caller gave them.

    Raises:
        ValueError: Samples are to be left out of a sum by a function of norms.
    """
    nonfinite = cut["nonfinite"]
    given = problem, arrays, chosen, sample_weight
    if callable(cut["rule"]):
        if nonfinite == DROP:
            raise ValueError("nonfinite='drop' of dask arrays is known for rule='clip' and 'automatic'; for a function "
                             "of norms leave such samples out of x and y")  # fmt: skip
        found = _by_function(*given, cut)
    else:
        found = compute("clipped_sum_by", *given, **cut | {"nonfinite": PROPAGATE if nonfinite == RAISE else nonfinite})
    if nonfinite == PROPAGATE:
        return found
    return found._replace(sum=_with_a_look(found.sum, leaves(found.norms), nonfinite))


def _by_function(
    problem: Problem, arrays: tuple[Tree, Tree, Tree], chosen: Chosen, sample_weight: Any, cut: dict[str, Any]
) -> Clipped[Any]:
    """Weight gradients by what a function gives for all norms, `(n,)`, which are there at once for it alone."""
    given, by = (problem, arrays, chosen, sample_weight), cut["by"]
    norms = compute("norms", *given) if by is None else compute("norms_by", *given, by=by)
    [all_norms] = leaves(norms)  # theta is one array, and so there is one group
    like = memoryless(arrays[0])
    limits(cut["max_norm"], len(all_norms), like)
    weights = dask.delayed(known_rule(cut["rule"], len(all_norms), like), pure=True)(all_norms)
    array = da.from_delayed(weights, all_norms.shape, all_norms.dtype)
    return Clipped(compute("weighted_sum", *given, weights=array), norms)


def _with_a_look(total: da.Array, norms: list[da.Array], nonfinite: str) -> da.Array:
    """Return the sum, in whose task norms that are not finite are told.

    Args:
        total: Sum of all samples.
        norms: Of each group, `(n,)`.
        nonfinite: What the caller wants of them.
    """
    odd = da.stack([~da.isfinite(one) for one in norms]).any(0)
    n = len(odd)
    if not n:
        return total
    numbers = da.where(odd, da.arange(n, chunks=odd.chunks), n)
    first = da.topk(numbers, -min(n, MOST_NAMED + 1))
    looked = dask.delayed(partial(_told, nonfinite, n), pure=True)(total, odd.sum(), first)
    return da.from_delayed(looked, total.shape, total.dtype)


def _told(nonfinite: str, n: int, total: Any, count: Any, first: Any) -> Any:
    """Return the sum; warn, where the caller is, or raise where there are samples whose norms are not finite."""
    if says := said_of_odd(first[: int(count)].tolist(), int(count), n, nonfinite):
        _warn(says)
    return np.asarray(total)


def _warn(says: str) -> None:
    try:
        from distributed import warn  # which has the client warn
    except ImportError:
        warnings.warn(says, NonFiniteWarning, stacklevel=2)
    else:
        warn(says, NonFiniteWarning)
