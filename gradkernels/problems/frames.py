"""DataFrames and Series, of pandas or polars, as the numpy arrays that are in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.names import dtype_name
from gradkernels.tree import each, leaves

_LIBRARIES = ("pandas", "polars")


def is_frame(value: Any) -> bool:
    """Tell whether it is a DataFrame or a Series; neither library is loaded for it."""
    return type(value).__module__.partition(".")[0] in _LIBRARIES and hasattr(value, "to_numpy")


def without_frames(theta: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return theta, x and y with numpy arrays in place of DataFrames and Series; as they are without any.

    Whole numbers and truth values of x become numbers of theta's dtype; those of targets stay what they are.

    Args:
        theta: Parameters.
        x: Features.
        y: Targets, perhaps with weights.

    Raises:
        TypeError: A column does not hold numbers; names it.
    """
    if not any(map(is_frame, leaves((theta, x, y)))):
        return theta, x, y
    theta = _array("theta", theta, "float64")
    dtype = dtype_name(theta.dtype) if hasattr(theta, "dtype") else "float64"
    return theta, _array("x", x, dtype), each(lambda leaf: _array("y", leaf, None), y)


def _array(name: str, value: Any, dtype: str | None) -> Any:
    if not is_frame(value):
        return value
    array = value.to_numpy()
    if array.dtype.kind not in "biuf":
        array = _numbers(name, value)
    return array.astype(dtype) if dtype is not None and _is_whole(value) else array


def _is_whole(value: Any) -> bool:
    """Tell whether a frame holds whole numbers and truth values alone."""
    dtypes = value.dtypes if hasattr(value, "columns") else [value.dtype]
    return all(str(dtype).lower().startswith(("int", "uint", "bool")) for dtype in dtypes)


def _numbers(name: str, value: Any) -> Any:
    """Return the numbers of a frame of several kinds of columns, or of columns with gaps, which are NaN."""
    columns = {column: value[column] for column in value.columns} if hasattr(value, "columns") else {"": value}
    found = []
    for column, series in columns.items():
        try:
            found.append(np.array([_number(cell) for cell in series.to_list()], np.float64))
        except (TypeError, ValueError):
            kind = type(value).__name__
            where = f"column {column!r} of {name}" if column != "" else f"{name}, a {kind},"
            raise TypeError(f"{where} holds {series.dtype}, not numbers; leave it out or encode it") from None
    return np.stack(found, axis=1) if hasattr(value, "columns") else found[0]


def _number(cell: Any) -> float:
    if cell is None or type(cell).__name__ == "NAType":
        return np.nan
    if not isinstance(cell, bool | int | float | np.number | np.bool_):
        raise TypeError
    return float(cell)
