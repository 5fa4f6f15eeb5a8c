"""The error for what cannot be watched."""

from __future__ import annotations


class CannotWatch(ValueError):
    """Why a step's per-sample gradients cannot be seen, or would be wrong, as a sentence."""
