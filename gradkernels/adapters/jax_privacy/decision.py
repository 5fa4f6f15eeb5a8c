"""Whether taps compute a function's clipped sums: proven and timed on numbers drawn for its shapes, once for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradkernels.adapters.jax_privacy.options import ClippedGradOptions
from gradkernels.adapters.jax_privacy.sample_call import SampleCall
from gradkernels.adapters.jax_privacy.tapped_sum import jaxpr_with_constants, own_sum, tapped_sum
from gradkernels.backend import BACKENDS, Array
from gradkernels.check import Disagreement
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.taps.contributions import uses_of
from gradkernels.engines.taps.program import SampleProgram

MOST_BYTES = 2**30
"""Of the gradients of all samples: jax_privacy is not timed with more, and the proof has as many samples as fit."""

TAP_TOLERANCES = {"float32": 1e-4, "float64": 1e-10}
LEAST_SCALE = 1e-3
"""Of the longest gradient: what shorter ones' norms are compared by."""

SUMMED_ALONE = 2
"""Samples that the proof sums alone."""

TIMED_TURNS = 3
"""Of taps and jax_privacy; the least time of each counts."""

MOST_KEPT = 256
"""Decisions."""

SumFunction = Callable[..., tuple[list[Array], Array]]
_decisions: dict[Hashable, Decision] = {}


@dataclass(frozen=True)
class Decision:
    """What computes, and why.

    Attributes:
        taps: Whether taps do.
        why: A sentence.
    """

    taps: bool
    why: str


def decision_of(call: SampleCall, options: ClippedGradOptions) -> Decision:
    """Decide for one kind of call: the same equations, number of samples and options.

    Args:
        call: Taken apart.
        options: What is asked for.
    """
    kind = (
        str(call.closed.jaxpr),
        options.microbatch_size or call.n,
        options.rescale_to_unit_norm,
        options.nan_safe,
        jax.default_backend(),
    )
    if kind not in _decisions:
        if len(_decisions) >= MOST_KEPT:
            _decisions.clear()
        with jax.ensure_compile_time_eval():
            _decisions[kind] = _decided(call, options)
    return _decisions[kind]


def _decided(call: SampleCall, options: ClippedGradOptions) -> Decision:
    try:
        if not uses_of(SampleProgram(call.closed, len(call.theta))):
            return Decision(
                False, "jax_privacy: no parameter is used by one matrix product, look-up or convolution alone"
            )
        return _proven_and_timed(call, options)
    except Exception as fault:  # whatever it is: jax_privacy computes, or says what is wrong
        return Decision(False, f"jax_privacy: {type(fault).__name__}: {fault}")


def _proven_and_timed(call: SampleCall, options: ClippedGradOptions) -> Decision:
    n = options.microbatch_size or call.n
    of_one = sum(one.size * one.dtype.itemsize for one in call.theta)
    some = max(1, min(n, MOST_BYTES // max(1, of_one)))
    inputs = _drawn(call, some)
    ours, own = (_compiled(call, options, by) for by in (_by_taps, own_sum))
    _require_equal(ours, own, inputs)
    if some < n:
        return Decision(True, f"taps: the gradients of {n} samples are over {MOST_BYTES:,} bytes")
    limit = np.ones((), call.theta[0].dtype)
    turns = [[_seconds(by, *inputs, np.zeros(n, bool), limit) for by in (ours, own)] for _ in range(TIMED_TURNS)]
    of_taps, of_own = np.min(turns, 0)
    taken = f"{of_taps / of_own:.2f} of jax_privacy's time on {n} samples that were drawn"
    return Decision(bool(of_taps < of_own), f"{'taps' if of_taps < of_own else 'jax_privacy'}: taps took {taken}")


def _by_taps(*arguments: Any) -> tuple[list[Array], Array]:
    sums, _, norms = tapped_sum(*arguments)
    return sums, norms


def _compiled(call: SampleCall, options: ClippedGradOptions, by: SumFunction) -> SumFunction:
    """Return `(constants, theta, batch, padding, limit) -> sums, norms`, compiled."""

    @jax.jit
    def compute(constants: Any, theta: Any, batch: Any, padding: Array, limit: Array) -> tuple[list[Array], Array]:
        asked = replace(options, l2_clip_norm=limit, microbatch_size=None)
        return by(jaxpr_with_constants(call.closed, constants), asked, theta, batch, padding)

    return compute


def _require_equal(ours: SumFunction, own: SumFunction, inputs: tuple[Any, Any, Any]) -> None:
    """Compare norms, the sums of all and of random samples, and some samples alone.

    Args:
        ours: By taps.
        own: By jax_privacy.
        inputs: Constants, theta and the arrays of samples.

    Raises:
        Disagreement: They differ by more than rounding.
    """
    n = len(inputs[2][0])
    lengths = np.asarray(own(*inputs, np.zeros(n, bool), np.ones((), inputs[1][0].dtype))[1], np.float64)
    if not np.isfinite(lengths).all():
        raise Unfit("numbers that were drawn for these shapes have no finite gradients")
    limit = np.asarray(np.median(lengths) or 1.0, inputs[1][0].dtype)
    scales = np.maximum(lengths, max(LEAST_SCALE * lengths.max(), 1e-30))
    tolerance = TAP_TOLERANCES[inputs[1][0].dtype.name]
    random = np.random.default_rng(0)
    alone = random.permutation(n)[:SUMMED_ALONE]
    for kept in [np.ones(n, bool), random.random(n) < 0.5, *(np.arange(n) == one for one in alone)]:
        (sums, norms), (true_sums, true_norms) = (by(*inputs, ~kept, limit) for by in (ours, own))
        off = (abs(np.asarray(norms, np.float64) - np.asarray(true_norms)) / scales).max()
        distance = _length([one - true for one, true in zip(sums, true_sums, strict=True)])
        allowed = np.minimum(lengths, float(limit))[kept].sum()
        if not (off <= tolerance and distance <= tolerance * max(allowed, 1e-30)):
            raise Disagreement(f"taps are off by {off:.1g} of a norm, {distance:.1g} of a sum of length {allowed:.1g}")


def _length(arrays: list[Any]) -> float:
    return float(np.sqrt(sum((np.asarray(one, np.float64) ** 2).sum() for one in arrays)))


def _drawn(call: SampleCall, n: int) -> tuple[Any, Any, Any]:
    """Return constants, theta and n samples: the call's own where they are numbers, others drawn like them."""
    rng = np.random.default_rng(0)
    constants = [_numbers(rng, one, jnp.shape(one)) for one in call.closed.consts]
    theta = [_numbers(rng, one, one.shape, len(one) if one.ndim > 1 else 1) for one in call.theta]
    return constants, theta, [_numbers(rng, one, (n, *one.shape[1:])) for one in call.batch]


def _numbers(rng: np.random.Generator, like: Any, shape: tuple[int, ...], inputs: int = 1) -> Any:
    """Return the first entries of an array, or where it has no numbers yet, some drawn like it.

    Args:
        rng: To draw by.
        like: The array.
        shape: Of what is returned; all but its first axis as the array has it.
        inputs: By whose square root what is drawn is divided.
    """
    if not isinstance(like, jax.core.Tracer):
        return like[: shape[0]] if shape else like
    dtype: Any = like.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0, impl=jax.random.key_impl(like)), shape)
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(rng.standard_normal(shape) / inputs**0.5, dtype)
    return jnp.asarray(rng.integers(0, 2, shape), dtype)


def _seconds(compute: SumFunction, *inputs: Any) -> float:
    started = time.perf_counter()
    BACKENDS["jax"].wait(compute(*inputs))
    return time.perf_counter() - started
