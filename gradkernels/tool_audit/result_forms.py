"""What a tool returned, taken for rows: a dict by name, a list in the order of parameters, or a flat matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.fastest.flat_rows import FlatLayout
from gradkernels.truth import Floats
from gradkernels.validate import dtype_of


class Misfit(ValueError):
    """A result that cannot be taken for rows.

    Attributes:
        parameter: The first one that does not fit, if it is one.
    """

    def __init__(self, says: str, parameter: str | None = None) -> None:
        super().__init__(says)
        self.parameter = parameter


def rows_of(result: Any, layout: FlatLayout, dtypes: dict[str, str], n: int) -> Floats:
    """Return rows `(n, P)` in float64, parameters side by side in theta's order.

    Args:
        result: What the tool returned.
        layout: The parameters' names and shapes; the empty name for a theta that is one array.
        dtypes: Of the parameters by name.
        n: Number of samples.

    Raises:
        Misfit: It lacks a parameter, or one has another shape or dtype; or it is of another form.
    """
    parts = _by_name(result, layout, n)
    whole = len(parts) < len(layout.shapes)  # a flat matrix
    expected = {"": (n, len(layout))} if whole else {name: (n, *shape) for name, shape in layout.shapes.items()}
    kinds = {"": next(iter(dtypes.values()))} if whole else dtypes
    found = []
    for name, part in parts.items():
        found.append(_array(part, name, expected[name], kinds[name]).reshape(n, -1) if n else np.empty((0, 0)))
    return np.concatenate(found, 1) if n else np.empty((0, len(layout)))


def form_of(result: Any) -> str:
    """Return what kind of result it is, in words."""
    if isinstance(result, dict):
        return "a dict by name"
    if isinstance(result, list | tuple):
        return "a list in the order of parameters"
    return f"an array {tuple(result.shape)}" if hasattr(result, "shape") else f"a {type(result).__name__}"


def _by_name(result: Any, layout: FlatLayout, n: int) -> dict[str, Any]:
    """Return the arrays of a result by parameter, or the flat matrix by the empty name."""
    names = list(layout)
    if isinstance(result, dict):
        missing = [name for name in names if name not in result]
        extra = [str(name) for name in result if name not in layout.shapes]
        if missing or extra:
            says = f"a dict without {missing[0]!r}" if missing else f"a dict with {extra[0]!r}, which is no parameter"
            raise Misfit(f"returned {says}; names are those of named_parameters()", missing[0] if missing else None)
        return {name: result[name] for name in names}
    if isinstance(result, list | tuple):
        if len(result) != len(names):
            raise Misfit(f"returned {len(result)} arrays for {len(names)} parameters", None)
        return dict(zip(names, result, strict=True))
    if backend_of(result) is None:
        raise Misfit(f"returned a {type(result).__name__}; give a dict by name, a list, or one array (n, P)")
    if names == [""] and tuple(result.shape) == (n, *layout.shapes[""]):
        return {"": result}
    if tuple(result.shape) != (n, len(layout)):
        raise Misfit(f"returned an array {tuple(result.shape)}, expected {(n, len(layout))}")
    return {"": result.reshape(n, *layout.shapes[""]) if names == [""] else result}


def _array(part: Any, name: str, shape: tuple[int, ...], dtype: str) -> Floats:
    at, parameter = (f"{name}: ", name) if name else ("", None)
    if part is None:
        raise Misfit(f"{at}None, expected an array {shape}", parameter)
    library = backend_of(part)
    if library is None:
        raise Misfit(f"{at}a {type(part).__name__}, expected an array {shape}", parameter)
    if tuple(part.shape) != shape:
        raise Misfit(f"{at}shape {tuple(part.shape)}, expected {shape}", parameter)
    if dtype_of(part) != dtype:
        raise Misfit(f"{at}dtype {dtype_of(part)}, expected {dtype}", parameter)
    if hasattr(part, "detach"):
        part = part.detach().double()
        return np.array(part.to_dense().numpy(force=True) if part.is_sparse else part.numpy(force=True))
    return np.array(library.get(part), np.float64)
