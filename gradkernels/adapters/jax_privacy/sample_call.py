"""A call of a clipped gradient, taken apart: its parameters, its samples, and the jaxpr of one sample's loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gradkernels.adapters.jax_privacy.options import ClippedGradOptions
from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit

PARAMETER_DTYPES = ("float32", "float64")


@dataclass(frozen=True, eq=False)
class SampleCall:
    """One call.

    Attributes:
        closed: Jaxpr of parameters and one sample; its outputs are the loss and what the function returns beside it.
        theta: Arrays that are differentiated by.
        batch: Arrays of n samples, `(n, *shape)`.
        padding: Which samples do not count, `(n,)`.
        structure: Of the gradients, as a treedef.
        beside: Of what is returned beside the loss.
    """

    closed: Any
    theta: list[Array]
    batch: list[Array]
    padding: Array
    structure: Any
    beside: Any

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.padding)


def sample_call(
    fun: Callable[..., Any], options: ClippedGradOptions, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> SampleCall:
    """Take a call apart and trace the loss of one sample.

    Args:
        fun: The caller's function.
        options: What it is differentiated with.
        args: Of the call.
        kwargs: Of the call; all have the samples first.

    Raises:
        Unfit: Arguments that are left to jax_privacy.
    """
    given = dict(kwargs)
    padding = given.pop("is_padding_example", None)
    theta, structure = jax.tree.flatten(_chosen(args, options.argnums))
    _require_plain(theta)
    n = len(jax.tree.leaves(args[options.batch_argnums[0]])[0])
    batch, layout = jax.tree.flatten((_samples(args, options, n), given))
    if n == 0 or any(jnp.shape(one)[:1] != (n,) for one in batch):
        raise Unfit("there must be samples, as many in each array")
    seen: list[Any] = []  # structures of what is returned beside the loss, as it is traced

    def loss(theta: list[Array], sample: list[Array]) -> tuple[Array, list[Array]]:
        parts, named = jax.tree.unflatten(layout, sample)
        found = fun(*_put(args, options.argnums, jax.tree.unflatten(structure, theta), parts), **named)
        value, beside = found if options.has_aux else (found, ())
        seen.append(jax.tree.structure(beside))
        return value, jax.tree.leaves(beside)

    closed = jax.make_jaxpr(loss)([_like(one, 0) for one in theta], [_like(one, 1) for one in batch])
    padding = jnp.zeros(n, bool) if padding is None else padding
    return SampleCall(closed, theta, batch, padding, structure, seen[-1])


def _chosen(args: Sequence[Any], argnums: int | tuple[int, ...]) -> Any:
    return args[argnums] if isinstance(argnums, int) else tuple(args[place] for place in argnums)


def _samples(args: Sequence[Any], options: ClippedGradOptions, n: int) -> dict[int, Any]:
    """Return the arguments that differ from sample to sample, by place, as a sample of them is passed on."""
    found = {place: args[place] for place in options.batch_argnums}
    if options.keep_batch_dim:
        found = jax.tree.map(lambda one: jnp.expand_dims(one, 1), found)
    if options.prng_argnum is not None:
        found[options.prng_argnum] = jax.tree.map(lambda key: jax.random.split(key, n), args[options.prng_argnum])
    return found


def _put(args: Sequence[Any], argnums: int | tuple[int, ...], theta: Any, parts: dict[int, Any]) -> list[Any]:
    """Return arguments with parameters and one sample in their places.

    Args:
        args: Of the call.
        argnums: Places of parameters.
        theta: Parameters, as `argnums` has them.
        parts: Of the sample, by place.
    """
    own = {argnums: theta} if isinstance(argnums, int) else dict(zip(argnums, theta, strict=True))
    return [parts.get(place, own.get(place, one)) for place, one in enumerate(args)]


def _like(array: Array, axes: int) -> Any:
    shaped: Any = jax.ShapeDtypeStruct  # which has no types
    seen: Any = jax.typeof(array)
    return shaped(seen.shape[axes:], seen.dtype, weak_type=seen.weak_type)


def _require_plain(theta: list[Any]) -> None:
    """Raise an Unfit unless parameters are arrays of one usual dtype on one device."""
    if not all(hasattr(one, "dtype") for one in theta):
        raise Unfit("parameters must be arrays")
    seen = [jax.typeof(one) for one in theta]
    if (
        len({one.dtype for one in seen}) != 1
        or seen[0].dtype.name not in PARAMETER_DTYPES
        or any(one.weak_type for one in seen)
    ):
        raise Unfit(f"parameters must be of one dtype, {' or '.join(PARAMETER_DTYPES)}")
    if not all(one.sharding.mesh.empty for one in seen):
        raise Unfit("parameters are spread over a mesh")
