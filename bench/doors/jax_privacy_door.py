"""Clipped sums of `jax_privacy.clipped_grad` through the door and as it is: an MLP, and a decoder as in its examples.

python bench/doors/jax_privacy_door.py [--taps]
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import jax
import jax.numpy as jnp
import jax_privacy
from door_rows import compared, write

from gradkernels.adapters.jax_privacy import clipped_grad, clipped_gradients
from gradkernels.adapters.jax_privacy.decision import Decision

LIBRARY = f"jax_privacy {version('jax_privacy')}"
LETTERS, WIDE, HEADS = 65, 128, 4
KEYS = iter(jax.random.split(jax.random.key(0), 64))


def matrix(*shape):
    """Draw a matrix."""
    return jax.random.normal(next(KEYS), shape) / shape[0] ** 0.5


def mlp(layers, x, y):
    """Compute the mean loss of three dense layers, 64-256-256-10."""
    for layer in layers:
        x = (jax.nn.relu(x) if layer is not layers[0] else x) @ layer["w"] + layer["b"]
    return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()


def normed(layer, x):
    """Normalize each token (Ba, Kiros & Hinton 2016)."""
    x = x - x.mean(-1, keepdims=True)
    return layer["scale"] * x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) + layer["bias"]


def decoder(params, letters, following):
    """Compute the mean loss of the next letter, by two blocks 128 wide."""
    n, tokens = letters.shape
    x = params["letters"][letters] + params["places"][:tokens]
    for block in params["blocks"]:
        heads = (n, tokens, HEADS, WIDE // HEADS)
        q, k, v = ((x @ block[name]).reshape(heads) for name in "qkv")
        x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ block["out"]
        x = normed(block["before"], x)
        x = normed(block["after"], x + jax.nn.gelu(x @ block["wide"]) @ block["narrow"])
    logits = normed(params["last"], x) @ params["head"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), following[..., None], -1).mean()


def examples():
    """Yield name, loss, params and data."""
    layers = [{"w": matrix(*shape), "b": jnp.zeros(shape[1])} for shape in ((64, 256), (256, 256), (256, 10))]
    data = jax.random.normal(next(KEYS), (256, 64)), jax.random.randint(next(KEYS), (256,), 0, 10)
    yield "a step's clipped sum, MLP 64-256-256-10", mlp, layers, data

    def norm():
        return {"scale": jnp.ones(WIDE), "bias": jnp.zeros(WIDE)}

    blocks = [
        {name: matrix(WIDE, WIDE) for name in ("q", "k", "v", "out")}
        | {"wide": matrix(WIDE, 4 * WIDE), "narrow": matrix(4 * WIDE, WIDE), "before": norm(), "after": norm()}
        for _ in range(2)
    ]
    params = {"letters": matrix(LETTERS, WIDE), "places": matrix(128, WIDE), "blocks": blocks}
    params |= {"last": norm(), "head": matrix(WIDE, LETTERS)}
    for tokens, n in ((32, 64), (128, 16)):
        text = jax.random.randint(next(KEYS), (n, tokens + 1), 0, LETTERS)
        yield f"a step's clipped sum, decoder 128 wide, {tokens} letters", decoder, params, (text[:, :-1], text[:, 1:])


def measure(taps):
    """Yield a row for each example; what computes is part of its name."""
    if taps:
        clipped_gradients.decision_of = lambda call, options: Decision(True, "taps")
    for name, loss, params, data in examples():
        options = {"l2_clip_norm": 1.0, "batch_argnums": (1, 2), "return_values": True}
        made = clipped_grad(loss, **options)
        ours, own = jax.jit(made), jax.jit(jax_privacy.clipped_grad(loss, **options))
        wanted, found = (jax.tree.leaves(one(params, *data)) for one in (own, ours))
        off = max(float(abs(a - b).max() / abs(b).max()) for a, b in zip(found, wanted, strict=True) if abs(b).max())
        by = made.fun.why.split(":")[0] + (" (asked for)" if taps else " (chosen)")
        print(made.fun.why)
        yield compared(
            ("jax_privacy", LIBRARY, f"{name}, by {by}", len(data[0])),
            lambda ours=ours, given=(params, *data): jax.block_until_ready(ours(*given)),
            lambda own=own, given=(params, *data): jax.block_until_ready(own(*given)),
            off,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--taps", action="store_true", help="compute by taps, whatever is faster")
    for row in measure(parser.parse_args().taps):
        write([row])
