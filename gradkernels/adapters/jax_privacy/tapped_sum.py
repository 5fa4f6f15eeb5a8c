"""The clipped sum of one batch, by taps and as jax_privacy computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jax_privacy
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from gradkernels.adapters.jax_privacy.options import ClippedGradOptions
from gradkernels.backend import Array
from gradkernels.engines.taps.contributions import Contributions, of_program
from gradkernels.engines.taps.lengths import norms_of
from gradkernels.engines.taps.program import SampleProgram
from gradkernels.engines.taps.sums import weighted_parameter_sums

TappedSum = tuple[list[Array], list[Array], Array]
"""Sums of each parameter, outputs `(n, *shape)` of each sample, norms `(n,)`."""

PART_OF_RANGE = 0.99
"""Of the longest gradient whose square is still a number: beyond it, jax_privacy's norm is infinite."""


def tapped_sum(
    closed: Any, options: ClippedGradOptions, theta: list[Array], batch: list[Array], padding: Array
) -> TappedSum:
    """Clip and sum by taps, and leave what is not finite to jax_privacy, one sample at a time.

    Args:
        closed: Jaxpr of one sample's loss, with its constants.
        options: What is asked for; its sum is not divided by anything yet.
        theta: Parameters.
        batch: Arrays of n samples.
        padding: Which of them do not count, `(n,)`.
    """
    found = of_program(SampleProgram(closed, len(theta)), theta, batch)
    norms = norms_of(found)
    weights = jnp.where(padding, 0, _weights(norms, options))
    longest = PART_OF_RANGE * float(np.finfo(norms.dtype).max) ** 0.5
    usable = padding | (norms < longest)
    sums, own_norms = jax.lax.cond(
        usable.all(),
        lambda: (weighted_parameter_sums(_without(found, padding), weights), norms),
        lambda: own_sum(closed, replace(options, microbatch_size=1), theta, batch, padding),
    )
    return sums, found.outputs, jnp.where(usable, norms, own_norms)


def own_sum(
    closed: Any, options: ClippedGradOptions, theta: list[Array], batch: list[Array], padding: Array
) -> tuple[list[Array], Array]:
    """Clip and sum by jax_privacy; return sums and norms.

    Args:
        closed: Jaxpr of one sample's loss, with its constants.
        options: What is asked for.
        theta: Parameters.
        batch: Arrays of n samples.
        padding: Which of them do not count, `(n,)`.
    """

    def loss(theta: list[Array], *sample: Array) -> Array:
        value: Array = jaxpr_as_fun(closed)(*theta, *sample)[0]
        return value

    sums, beside = jax_privacy.clipped_grad(
        loss,
        l2_clip_norm=options.l2_clip_norm,
        rescale_to_unit_norm=options.rescale_to_unit_norm,
        batch_argnums=tuple(range(1, 1 + len(batch))),
        keep_batch_dim=False,
        return_grad_norms=True,
        microbatch_size=options.microbatch_size,
        nan_safe=options.nan_safe,
    )(theta, *batch, is_padding_example=padding)
    return sums, beside.grad_norms


def jaxpr_with_constants(closed: Any, constants: Sequence[Any]) -> Any:
    """Return a jaxpr with other constants."""
    return ClosedJaxpr(closed.jaxpr, constants)


def _weights(norms: Array, options: ClippedGradOptions) -> Array:
    """Return what jax_privacy's `clip_pytree` multiplies gradients with, `(n,)`."""
    limit = jnp.maximum(options.l2_clip_norm, 0.0).astype(norms.dtype)
    scale = jnp.minimum(1.0, limit / norms)
    if options.rescale_to_unit_norm:
        scale = jnp.where(limit > 0, scale / limit, 1 / norms)
    return jnp.nan_to_num(scale, nan=0.0, posinf=0.0)


def _without(found: Contributions, dropped: Array) -> Contributions:
    """Return contributions with zeros for some samples: what is not finite there cannot be weighted away."""

    def zeroed(array: Array) -> Array:
        return jnp.where(dropped.reshape(-1, *[1] * (array.ndim - 1)), 0, array)

    return replace(found, factors=jax.tree.map(zeroed, found.factors), rows=jax.tree.map(zeroed, found.rows))
