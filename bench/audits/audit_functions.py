"""Functions of JAX for audits, one peculiarity each, with 8 samples, float32, seeded.

`gradkernels audit --tool jax_privacy --problem bench/audits/audit_functions.py:tied`
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

import gradkernels as gk

SAMPLES, LENGTH, WORDS, CLASSES = 8, 6, 12, 3

FUNCTIONS = {}
"""The factories by name."""

KEYS = iter(jax.random.split(jax.random.key(3), 64))


def listed(factory):
    """Make a problem of what a factory gives, (losses, params, x, y), and list it."""

    @functools.wraps(factory)
    @functools.cache
    def problem():
        losses, params, *example = factory()
        losses.__name__ = factory.__name__
        return gk.FunctionProblem(losses, params, example=tuple(example))

    FUNCTIONS[factory.__name__] = problem
    return problem


def normal(*shape):
    return jax.random.normal(next(KEYS), shape)


def whole(most, *shape):
    return jax.random.randint(next(KEYS), (SAMPLES, *shape), 0, most)


def cross_entropy(logits, y):
    """Return the mean over all axes but the first."""
    found = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1)[..., 0]
    return found.reshape(len(found), -1).mean(1)


@listed
def jax_mlp():
    """Make two dense layers."""

    def losses(params, x, y):
        return cross_entropy(jax.nn.relu(x @ params["first"] + params["bias"]) @ params["second"], y)

    params = {"first": normal(4, 6), "bias": normal(6), "second": normal(6, CLASSES)}
    return losses, params, normal(SAMPLES, 4), whole(CLASSES)


@listed
def jax_convolutions():
    """Have two convolutions, the second one with groups and strides."""

    def losses(params, x, y):
        for name, groups, stride in (("first", 1, 1), ("second", 2, 2)):
            how = {"feature_group_count": groups, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
            x = jnp.tanh(jax.lax.conv_general_dilated(x, params[name], (stride, stride), "SAME", **how))
        return cross_entropy(x.mean((1, 2)) @ params["head"], y)

    params = {"first": normal(3, 3, 1, 4), "second": normal(3, 3, 2, 4), "head": normal(4, CLASSES)}
    return losses, params, normal(SAMPLES, 6, 6, 1), whole(CLASSES)


@listed
def jax_tied():
    """Have the table of words as output layer too."""

    def losses(params, x, y):
        return cross_entropy(jnp.tanh(params["words"][x] @ params["body"]) @ params["words"].T, y)

    return losses, {"words": normal(WORDS, 5), "body": normal(5, 5)}, whole(WORDS, LENGTH), whole(WORDS, LENGTH)


@listed
def jax_recurrent():
    """Have the weights of every step of a `lax.scan`."""

    def losses(params, x, y):
        def step(h, now):
            return jnp.tanh(now @ params["in"] + h @ params["on"]), None

        last, _ = jax.lax.scan(step, jnp.zeros((len(x), 5)), jnp.swapaxes(x, 0, 1))
        return cross_entropy(last @ params["head"], y)

    params = {"in": normal(3, 5), "on": normal(5, 5), "head": normal(5, CLASSES)}
    return losses, params, normal(SAMPLES, LENGTH, 3), whole(CLASSES)


@listed
def jax_attention():
    """Have attention of two heads, and a normalization of each token with parameters."""

    def losses(params, x, y):
        q, k, v = (jnp.einsum("ntd,dhe->nthe", x, params[name]) for name in "qkv")
        x = x + jnp.einsum("nthe,hed->ntd", jax.nn.dot_product_attention(q, k, v), params["out"])
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * params["scale"]
        return cross_entropy(x.mean(1) @ params["head"], y)

    params = {name: normal(4, 2, 2) for name in "qkv"} | {"out": normal(2, 2, 4), "scale": normal(4)}
    return losses, params | {"head": normal(4, CLASSES)}, normal(SAMPLES, LENGTH, 4), whole(CLASSES)


@listed
def jax_ragged():
    """Take the mean over as many words as each text has."""

    def losses(params, x, y):
        words, lengths = x
        found = jax.nn.log_softmax(params["words"][words] @ params["head"])
        counted = jnp.arange(LENGTH) < lengths[:, None]
        return -(jnp.take_along_axis(found, y[..., None], -1)[..., 0] * counted).sum(1) / lengths

    params = {"words": normal(WORDS, 5), "head": normal(5, CLASSES)}
    return losses, params, (whole(WORDS, LENGTH), 1 + whole(LENGTH)), whole(CLASSES, LENGTH)


@listed
def jax_branches():
    """Compute by one of two branches, `lax.cond` on the sample."""

    def losses(params, x, y):
        def logits(x):
            return jax.lax.cond(x[0] > 0, lambda: x @ params["one"], lambda: jnp.tanh(x @ params["two"]))

        return cross_entropy(jax.vmap(logits)(x), y)

    return losses, {name: normal(4, CLASSES) for name in ("one", "two")}, normal(SAMPLES, 4), whole(CLASSES)
