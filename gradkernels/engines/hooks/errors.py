"""The error for models that cannot be differentiated by hooks."""

from __future__ import annotations

DRAWS_RANDOM = "the model draws random numbers, which randomness='error' refuses: call model.eval()"

ONE_AT_A_TIME = "gk.norms and the others of a gk.ModuleProblem take one sample at a time with kernel='torch.loop'"
"""What there is for a model whose samples cannot be followed, whoever is told: `gk.watch` has no kernels to pass."""


class Unfit(ValueError):
    """Why a model cannot be differentiated by hooks, as a sentence."""
