"""Norms of per-sample gradients of JAX functions through the door, and by vmap of grad: an MLP and an attention block.

python bench/doors/jax_door.py [--kernel jax.hooks]
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import jax
import jax.numpy as jnp
from door_rows import compared, write

import gradkernels as gk

LIBRARY = f"jax {version('jax')}"
WIDTH, HEADS, CLASSES = 64, 4, 10
KEYS = iter(jax.random.split(jax.random.key(0), 64))


def linear(wide, narrow):
    """Draw a dense layer."""
    return {"w": jax.random.normal(next(KEYS), (wide, narrow)) / wide**0.5, "b": jnp.zeros(narrow)}


def dense(layer, x):
    """Apply a dense layer."""
    return x @ layer["w"] + layer["b"]


def normed(scale, x):
    """Normalize each token (Ba, Kiros & Hinton 2016)."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale["g"] + scale["b"]


def cross_entropy(logits, y):
    """Compute the loss of each sample."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)[:, 0]


def mlp(params, x, y):
    """Compute the losses of three dense layers, 64-256-256-10."""
    for layer in params[:-1]:
        x = jax.nn.relu(dense(layer, x))
    return cross_entropy(dense(params[-1], x), y)


def block(params, x, y):
    """Compute the losses of one transformer block, whose mean over tokens is classified."""
    h = normed(params["before"], x)
    heads = (*x.shape[:2], HEADS, WIDTH // HEADS)
    q, k, v = (dense(params[name], h).reshape(heads) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k) / (WIDTH // HEADS) ** 0.5)
    x = x + dense(params["out"], jnp.einsum("nhts,nshd->nthd", weights, v).reshape(x.shape))
    h = normed(params["between"], x)
    x = x + dense(params["narrow"], jax.nn.gelu(dense(params["wide"], h)))
    return cross_entropy(dense(params["head"], x.mean(1)), y)


def examples():
    """Yield name, losses, params and inputs."""
    layers = [linear(WIDTH, 256), linear(256, 256), linear(256, CLASSES)]
    yield "norms of an MLP 64-256-256-10", mlp, layers, jax.random.normal(next(KEYS), (256, WIDTH))
    params = {name: linear(WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    params |= {"wide": linear(WIDTH, 4 * WIDTH), "narrow": linear(4 * WIDTH, WIDTH), "head": linear(WIDTH, CLASSES)}
    params |= {name: {"g": jnp.ones(WIDTH), "b": jnp.zeros(WIDTH)} for name in ("before", "between")}
    for tokens in (16, 64):
        x = jax.random.normal(next(KEYS), (64, tokens, WIDTH))
        yield f"norms of a transformer block 64 wide, {tokens} tokens", block, params, x


def measure(kernel):
    """Yield a row for each example; the way that was chosen is part of its name."""
    for name, losses, params, x in examples():
        y = jax.random.randint(next(KEYS), (len(x),), 0, CLASSES)
        one = jax.grad(lambda params, x, y, losses=losses: losses(params, x[None], y[None])[0])

        @jax.jit
        def own(params, x, y, one=one):
            rows = jax.tree.leaves(jax.vmap(one, (None, 0, 0))(params, x, y))
            return jnp.sqrt(sum((row**2).reshape(len(x), -1).sum(1) for row in rows))

        bound = gk.fastest(gk.FunctionProblem(losses, params), "norms", like=(params, x, y), kernel=kernel)
        wanted = own(params, x, y)
        off = float(abs(bound(params, x, y) - wanted).max() / wanted.max())
        what = f"{name}, by {bound.kernel.way}" + (" (asked for)" if kernel else " (chosen)")
        yield compared(
            ("jax", LIBRARY, what, len(x)),
            lambda bound=bound, given=(params, x, y): jax.block_until_ready(bound(*given)),
            lambda own=own, given=(params, x, y): jax.block_until_ready(own(*given)),
            off,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", help="a way to take instead of the one that a trial chooses")
    for row in measure(parser.parse_args().kernel):
        write([row])
