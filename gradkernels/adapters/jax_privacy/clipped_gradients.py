"""`clipped_grad`, with jax_privacy's signature and result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp
import jax_privacy
import optax
from jax_privacy.clipping import AuxiliaryOutput, BoundedSensitivityCallable

from gradkernels.adapters.jax_privacy.decision import decision_of
from gradkernels.adapters.jax_privacy.options import ClippedGradOptions
from gradkernels.adapters.jax_privacy.sample_call import SampleCall, sample_call
from gradkernels.adapters.jax_privacy.tapped_sum import TappedSum, tapped_sum
from gradkernels.backend import Array

ARGUMENTS = signature(jax_privacy.clipped_grad)
NO_TRANSFORM = ARGUMENTS.parameters["pre_clipping_transform"].default
SUM, CONCAT = optax.microbatching.AccumulationType.SUM, optax.microbatching.AccumulationType.CONCAT


@wraps(jax_privacy.clipped_grad, assigned=())
def clipped_grad(*args: Any, **kwargs: Any) -> BoundedSensitivityCallable:
    """Create a function that sums the clipped gradients of another: signature and result are jax_privacy's.

    Args:
        *args: The function that returns a loss, and what follows in `jax_privacy.clipped_grad`.
        **kwargs: As there.

    Returns:
        jax_privacy's own kind of function, whose `fun.why` says what computed last.
    """
    own = jax_privacy.clipped_grad(*args, **kwargs)
    given = ARGUMENTS.bind(*args, **kwargs)
    given.apply_defaults()
    asked = given.arguments
    if asked["pre_clipping_transform"] is not NO_TRANSFORM or asked["spmd_axis_name"] is not None:
        return own
    options = ClippedGradOptions(**{field.name: asked[field.name] for field in fields(ClippedGradOptions)})
    return replace(own, fun=ClippedGrad(asked["fun"], own, options.with_tuples(), asked["dtype"]))


class ClippedGrad:
    """Sums the clipped gradients of a function by taps or, where they do not serve, by jax_privacy.

    Args:
        fun: The caller's function.
        own: What jax_privacy makes of it.
        options: What is asked for.
        dtype: Of the sum; None for the parameters' own.

    Attributes:
        why: What computed last, and why.
    """

    def __init__(self, fun: Callable[..., Any], own: Callable[..., Any], options: ClippedGradOptions, dtype: Any):
        self._fun, self._own, self._options, self._dtype = fun, own, options, dtype
        self.why = "nothing was computed yet"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute as jax_privacy's function does: within `jax.jit` by taps if they are proven and faster."""
        try:
            call = self._call(args, kwargs)
        except Exception as fault:  # whatever it is: jax_privacy computes, or says what is wrong
            self.why, call = f"jax_privacy: {type(fault).__name__}: {fault}", None
        return self._own(*args, **kwargs) if call is None else self._tapped(call)

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> SampleCall | None:
        """Return the call taken apart if taps compute it."""
        if not any(isinstance(one, jax.core.Tracer) for one in jax.tree.leaves((args, kwargs))):
            self.why = "jax_privacy: outside of jax.jit, where nothing is compiled"
            return None
        call = sample_call(self._fun, self._options, args, kwargs)
        if self._dtype is not None and jnp.dtype(self._dtype) != call.theta[0].dtype:
            self.why = f"jax_privacy: the sum is asked for in {jnp.dtype(self._dtype)}"
            return None
        decision = decision_of(call, self._options)
        self.why = decision.why
        return call if decision.taps else None

    def _tapped(self, call: SampleCall) -> Any:
        options = self._options
        sums, outputs, norms = self._in_parts(call)
        sums = [one / options.normalize_by for one in sums] if options.normalize_by != 1.0 else sums
        gradient = jax.tree.unflatten(call.structure, sums)
        if not (options.has_aux or options.return_values or options.return_grad_norms):
            return gradient
        if options.keep_batch_dim:
            outputs = [_without_axis(one) for one in outputs]
        values = outputs.pop(0) if options.return_values else None
        aux = jax.tree.unflatten(call.beside, outputs) if options.has_aux else None
        return gradient, AuxiliaryOutput(values, norms if options.return_grad_norms else None, aux)

    def _in_parts(self, call: SampleCall) -> TappedSum:
        """Compute so many samples at a time as is asked for."""
        options, size = self._options, self._options.microbatch_size

        def some(batch: list[Array], padding: Array) -> TappedSum:
            sums, (values, *beside), norms = tapped_sum(call.closed, options, call.theta, batch, padding)
            return sums, [values, *beside] if options.return_values else beside, norms

        parts = optax.microbatching.microbatch(
            some,
            argnums=(0, 1),
            microbatch_size=size,
            accumulator=(SUM, CONCAT, CONCAT),
            num_real_microbatches=None if size is None else _parts_that_count(call.padding, size),
        )
        found: TappedSum = parts(call.batch, call.padding)
        return found


def _parts_that_count(padding: Array, size: int) -> Array:
    """Return the number of parts up to the last that has a sample which counts."""
    counts = ~optax.microbatching.reshape_batch_axis(padding, size).all(1)
    return jnp.max(jnp.where(counts, 1 + jnp.arange(len(counts)), 0))


def _without_axis(array: Array) -> Array:
    """Return what is beside the losses without a second axis of length one, as jax_privacy does."""
    return array[:, 0] if array.ndim > 1 and array.shape[1] == 1 else array
