"""JAX's vmap, jitted, on the MLP and the Transformer of the zoo: the same functions of the same parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gradkernels.backend import BACKENDS
from gradkernels.kernel import Kernel
from gradkernels.quantity import QUANTITIES

HEADS = 4


def linear(theta, name, x):
    """Apply the Linear layer called `name`."""
    return x @ theta[f"{name}.weight"].T + theta[f"{name}.bias"]


def mlp(theta, x):
    """Compute the logits of one sample `(64,)`."""
    for name in ("0", "2"):
        x = jax.nn.relu(linear(theta, name, x))
    return linear(theta, "4", x)


def normalised(theta, name, x):
    """Apply the LayerNorm called `name`."""
    centred = x - x.mean(-1, keepdims=True)
    spread = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred * spread * theta[f"{name}.weight"] + theta[f"{name}.bias"]


def attention(theta, name, x):
    """Apply the MultiheadAttention called `name` to one sequence `(t, width)`."""
    inner = x @ theta[f"{name}.in_proj_weight"].T + theta[f"{name}.in_proj_bias"]
    queries, keys, values = (part.reshape(len(x), HEADS, -1).swapaxes(0, 1) for part in jnp.split(inner, 3, -1))
    weights = jax.nn.softmax(queries @ keys.swapaxes(1, 2) / queries.shape[-1] ** 0.5, -1)
    return linear(theta, f"{name}.out_proj", (weights @ values).swapaxes(0, 1).reshape(x.shape))


def transformer(theta, tokens):
    """Compute the logits of one sequence of token ids `(t,)`."""
    x = theta["words.weight"][tokens] + theta["positions"]
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        x = normalised(theta, f"{layer}.norm1", x + attention(theta, f"{layer}.self_attn", x))
        inner = jax.nn.relu(linear(theta, f"{layer}.linear1", x))
        x = normalised(theta, f"{layer}.norm2", x + linear(theta, f"{layer}.linear2", inner))
    return linear(theta, "head", x.mean(0))


LOGITS = {"mlp": mlp, "transformer": transformer}


def kernels(model, quantity):
    """List the one kernel of a quantity: the definition on the rows of vmap, or the gradient of the mean loss."""
    logits = LOGITS[model]

    def loss(theta, x, y):
        return -jax.nn.log_softmax(logits(theta, x))[y]

    rows = jax.vmap(jax.grad(loss), (None, 0, 0))

    def mean(theta, x, y):
        return jax.vmap(loss, (None, 0, 0))(theta, x, y).mean()

    def definition(theta, x, y, **options):
        return QUANTITIES[quantity].of(jnp, rows(theta, x, y), **options)

    def build(problem):
        found = jax.jit(jax.grad(mean) if quantity == "gradient" else definition)

        def compute(theta, x, y, **options):
            result = found(theta, x, y, **options)
            # JAX sorts the names of a dict.
            return {name: result[name] for name in theta} if isinstance(result, dict) else result

        return compute

    name = "grad" if quantity == "gradient" else "vmap"
    return [Kernel(name, QUANTITIES[quantity], BACKENDS["jax"], build)]
