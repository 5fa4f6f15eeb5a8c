"""Arrays of dask, told apart without loading dask."""

from __future__ import annotations

from typing import Any


def is_lazy(value: Any) -> bool:
    """Tell whether it is one of dask's collections: an array, a DataFrame, or something delayed."""
    return type(value).__module__.partition(".")[0] == "dask" and hasattr(value, "__dask_graph__")
