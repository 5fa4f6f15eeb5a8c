"""A result has the structure, shapes and dtype that its quantity must have; then it is arrays in float64.

Where theta is a dict, its parameters are laid side by side in its order, so that what comes after is array code:
rows are `(n, p)`, a gradient `(p,)`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.case import Case
from gradkernels.check.compare_arrays import Disagreement, EntryNamer, plain_entry
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import Moments, Options
from gradkernels.tree import Tree, count, leaves, named
from gradkernels.validate import dtype_of


def conforming(result: Any, case: Case, theta: Tree, y: Tree, where: str, options: Options | None = None) -> Any:
    """Convert a result that has the structure of its quantity to float64: an array, or `Moments` of two.

    Args:
        result: What a kernel returned.
        case: For its quantity and dtype.
        theta: Parameters, for their names and shapes.
        y: Targets, for the number of samples.
        where: Start of the message.
        options: Of the call; None where it has none.

    Raises:
        Disagreement: It has another structure, dtype or shape than the case's quantity of theta.
    """
    n, options = count(y), {**(options or {}), **output_axes(case.quantity, y)}
    blank = case.quantity.blank(n, theta, options)
    if says := misfit(result, blank, f"{case.quantity.name}'s structure"):
        raise Disagreement(f"{where}: returned {says}")
    for (name, got), want in zip(named("", result), leaves(blank), strict=True):
        at = f"{where}: {name}: " if isinstance(theta, dict) and name else f"{where}: "
        if dtype_of(got) != case.dtype:
            raise Disagreement(f"{at}dtype {got.dtype}, expected {case.dtype}")
        if tuple(got.shape) != want.shape:
            raise Disagreement(f"{at}shape {tuple(got.shape)}, expected {want.shape}")
    leading = case.quantity.leading(n, options)
    return (
        Moments(*(_flat(part, leading) for part in result)) if isinstance(result, Moments) else _flat(result, leading)
    )


def misfit(result: Any, blank: Any, wanted: str) -> str:
    """Describe a result that has another structure than `blank`; return nothing for one that has the same.

    Args:
        result: What a kernel returned, or a part of it.
        blank: An array, dict or named tuple as it should be.
        wanted: What that is, in words.
    """
    if isinstance(result, dict) and isinstance(blank, dict):
        return _misnamed(result, blank)
    if isinstance(blank, tuple) and type(result) is type(blank):
        fields = zip(type(blank)._fields, result, blank, strict=True)  # type: ignore[attr-defined]
        parts = ((name, misfit(part, other, _kind(other))) for name, part, other in fields)
        return next((f"a {type(result).__name__} whose {name} is {says}" for name, says in parts if says), "")
    fits = not isinstance(blank, dict | tuple) and hasattr(result, "dtype") and hasattr(result, "shape")
    return "" if fits else f"a {type(result).__name__}, not {wanted}"


def _kind(blank: Any) -> str:
    return "a dict of theta's parameters" if isinstance(blank, dict) else "an array"


def _misnamed(result: dict[str, Any], blank: dict[str, Any]) -> str:
    """Describe a dict that has not theta's names in theta's order, each with an array."""
    missing, extra = [*(blank.keys() - result.keys())], [*(result.keys() - blank.keys())]
    if missing or extra:
        return f"a dict that lacks {missing or 'no'} parameters and has {extra or 'no'} others"
    parts = ((name, misfit(result[name], part, "an array")) for name, part in blank.items())
    if nested := next((f"a dict whose {name!r} is {says}" for name, says in parts if says), ""):
        return nested
    return "" if [*result] == [*blank] else "a dict with all of theta's parameters, but their order is not theta's"


def _flat(part: Any, leading: int) -> np.ndarray[Any, Any]:
    """Convert to float64, the arrays of a dict or tuple side by side, behind the axes that are not theirs."""
    if not isinstance(part, dict | tuple):
        backend = backend_of(part)
        return np.asarray(backend.get(part) if backend else part, np.float64)
    arrays = [_flat(array, leading) for array in (part.values() if isinstance(part, dict) else part)]
    shapes = [(*array.shape[:leading], math.prod(array.shape[leading:])) for array in arrays]
    return np.concatenate([array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)], -1)


def entry_namer(theta: Tree) -> EntryNamer:
    """Return what a message calls an entry of a result: by parameter where theta is a dict."""
    if not isinstance(theta, dict):
        return plain_entry
    ends = np.cumsum([math.prod(array.shape) for array in theta.values()])

    def tell(at: tuple[int, ...]) -> str:
        position = int(np.searchsorted(ends, at[-1], side="right")) if at else len(ends)
        if position == len(ends):
            return plain_entry(at)
        name, array = list(theta.items())[position]
        place = np.unravel_index(at[-1] - int(ends[position] - array.size), array.shape)
        return f"entry {(*at[:-1], *map(int, place))} of {name}"

    return tell
