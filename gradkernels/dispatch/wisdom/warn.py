"""Warnings of what cannot be used, each said once."""

from __future__ import annotations

import warnings
from functools import lru_cache


@lru_cache(maxsize=256)
def pass_over(what: str, fault: str) -> None:
    """Say once that no choice is made by `what`, and why: a caller's function is computed all the same."""
    warnings.warn(f"{what} passed over: {fault}", stacklevel=2)
