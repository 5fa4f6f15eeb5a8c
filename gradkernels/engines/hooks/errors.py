"""The error for models that cannot be differentiated by hooks."""

from __future__ import annotations

DRAWS_RANDOM = "the model draws random numbers, which randomness='error' refuses: call model.eval()"


class Unfit(ValueError):
    """Why a model cannot be differentiated by hooks, as a sentence."""
