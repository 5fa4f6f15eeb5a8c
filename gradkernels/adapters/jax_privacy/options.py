"""What `clipped_grad` was called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, eq=False)
class ClippedGradOptions:
    """Arguments of `clipped_grad`, as jax_privacy has them.

    Attributes:
        argnums: Which arguments are differentiated by; a number or several.
        has_aux: Whether the function returns something beside its loss.
        l2_clip_norm: Longest length that a gradient keeps.
        rescale_to_unit_norm: Whether clipped gradients are divided by it.
        normalize_by: What the sum is divided by.
        batch_argnums: Which arguments have the samples first.
        keep_batch_dim: Whether a sample keeps an axis of length one in their place.
        return_values: Whether losses are returned.
        return_grad_norms: Whether norms are.
        microbatch_size: Samples at a time; None for all.
        nan_safe: Whether what is not finite counts as zero.
        prng_argnum: Which argument is a key that each sample gets a part of.
    """

    argnums: int | tuple[int, ...]
    has_aux: bool
    l2_clip_norm: Any
    rescale_to_unit_norm: bool
    normalize_by: float
    batch_argnums: tuple[int, ...]
    keep_batch_dim: bool
    return_values: bool
    return_grad_norms: bool
    microbatch_size: int | None
    nan_safe: bool
    prng_argnum: int | None

    def with_tuples(self) -> ClippedGradOptions:
        """Return them with several places as tuples, and those of samples as one even if it is one place."""
        samples: Any = self.batch_argnums
        places: Any = self.argnums
        return replace(
            self,
            argnums=tuple(places) if isinstance(places, Sequence) else places,
            batch_argnums=tuple(samples) if isinstance(samples, Sequence) else (samples,),
        )
