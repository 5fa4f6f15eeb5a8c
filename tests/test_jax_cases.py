"""Taps on what JAX functions do beside layers: control flow on data, own derivatives, integers, shared weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import gradkernels as gk

N = 5
RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape))


def whole(low, high, *shape):
    return jnp.asarray(RNG.integers(low, high, shape))


def squares(found, y):
    """Return the squared distance of each sample."""
    return ((found - y) ** 2).reshape(len(y), -1).sum(1)


def each(function):
    """Make losses of a batch of `function(params, x, y)` of one sample."""
    return lambda p, x, y: jax.vmap(lambda *sample: function(p, *sample))(x, y)


@jax.custom_vjp
def limited(x):
    return x


limited.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


@jax.custom_vjp
def doubled(w, x):
    """A product whose derivative by w is twice its own."""
    return w @ x


doubled.defvjp(lambda w, x: (w @ x, (w, x)), lambda kept, g: (2 * jnp.outer(g, kept[1]), kept[0].T @ g))


def entry(times, table, x, at):
    return times * table[at] * x


picked = jax.custom_vjp(entry, nondiff_argnums=(0,))
picked.defvjp(
    lambda times, table, x, at: (entry(times, table, x, at), (table, x, at)),
    lambda times, kept, g: (
        jnp.zeros_like(kept[0]).at[kept[2]].add((g * kept[1]).sum() * times), g * times * kept[0][kept[2]], None
    ),
)  # fmt: skip


@jax.custom_batching.custom_vmap
def batched(w, x):
    return jnp.tanh(w @ x)


batched.def_vmap(lambda size, which, w, x: (jnp.tanh(x @ w.T), True))


def recurrent(p, x, y):
    def step(state, now):
        h, s = state
        i, f, g, o = jnp.split(p["i"] @ now + p["h"] @ h + p["b"], 4)
        s = jax.nn.sigmoid(f) * s + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(s), s), None

    (h, _), _ = lax.scan(step, (jnp.zeros(3), jnp.zeros(3)), x, reverse=True, unroll=2)
    return ((h - y) ** 2).sum()


def adapted(p, x, y):
    """Take two steps of gradient descent on the sample before its loss."""

    def step(w, now):
        return w - 0.1 * jax.grad(lambda w: ((w @ now) ** 2).sum())(w), None

    w, _ = lax.scan(step, p["w"], jnp.stack([x, 2 * x]))
    return ((w @ x - y) ** 2).sum()


def chosen_experts(p, x, y):
    weights, at = lax.top_k(x @ p["g"], 2)
    found = jnp.einsum("nd,nkdo->nko", x, p["e"][at])
    return squares((found * jax.nn.softmax(weights)[..., None]).sum(1), y)


def of_largest_singular_value(p, x, y):
    fixed = lax.stop_gradient(p["w"])

    def step(state):
        found = fixed.T @ (fixed @ state[1])
        return state[0] + 1, found / jnp.linalg.norm(found)

    _, v = lax.while_loop(lambda state: state[0] < 5, step, (0, jnp.ones(3)))
    return squares(x @ (p["w"] / jnp.linalg.norm(p["w"] @ v)).T, y)


def transposed_convolution(p, x, y):
    found = lax.conv_transpose(x, p["k"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return squares(found.mean((1, 2)), y)


def with_penalty(p, x, y):
    def f(x):
        return jnp.tanh(p["w"] @ x) @ p["v"]

    return (f(x) - y) ** 2 + (jax.grad(f)(x) ** 2).sum()


def averaged(p, x, y):
    decays = jnp.broadcast_to(jax.nn.sigmoid(p["a"]), x.shape)
    join = lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1])  # noqa: E731
    return squares(lax.associative_scan(join, (decays, x * p["b"]), axis=1)[1], y)


def with_keys(p, x, y):
    def dropped(x, key):
        return jnp.where(jax.random.bernoulli(jax.random.wrap_key_data(key), 0.5, (4,)), jnp.tanh(p["w"] @ x), 0)

    return squares(jax.vmap(dropped)(*x), y)


def scattered(p, x, y):
    return squares(jnp.zeros((len(x), 8)).at[jnp.arange(len(x))[:, None], x].add(p["w"]), y)


SQUARE, WORDS = normal(N, 3), whole(-9, 9, N, 4)
KEYS = jax.random.key_data(jax.random.split(jax.random.key(0), N))

CASES = {
    "cond": (
        each(lambda p, x, y: lax.cond(x[0] > 0, lambda: (p["a"] @ x - y) ** 2, lambda: jnp.sin(p["a"] @ x * p["b"]))),
        {"a": normal(3), "b": normal()},
        SQUARE,
        normal(N),
    ),
    "switch": (
        each(lambda p, x, y: lax.switch(y, [lambda: (p["a"] @ x) ** 2, lambda: jnp.sin(p["b"] @ x), lambda: x[0]])),
        {"a": normal(3), "b": normal(3)},
        SQUARE,
        jnp.array([0, 1, 2, 1, 0]),
    ),
    "loop with a weight": (
        each(lambda p, x, y: (lax.fori_loop(0, 3, lambda _, h: jnp.tanh(p["w"] @ h), x) * y).sum()),
        {"w": normal(3, 3)},
        SQUARE,
        SQUARE,
    ),
    "own derivative of data": (
        lambda p, x, y: squares(limited(x @ p["w"]), y),
        {"w": normal(3, 2)},
        SQUARE,
        normal(N, 2),
    ),
    "own derivative of a weight": (
        lambda p, x, y: squares(x @ limited(p["w"]), y),
        {"w": normal(3, 2)},
        SQUARE,
        normal(N, 2),
    ),
    "own derivative of both": (
        each(lambda p, x, y: ((jnp.tanh(doubled(p["w"], x)) - y) ** 2).sum()),
        {"w": normal(2, 3)},
        SQUARE,
        normal(N, 2),
    ),
    "own derivative with a number": (
        each(lambda p, x, y: (picked(2.0, p["w"], x, y) ** 2).sum()),
        {"w": normal(4)},
        SQUARE,
        whole(0, 4, N),
    ),
    "own batching": (
        each(lambda p, x, y: ((batched(p["w"], x) - y) ** 2).sum()),
        {"w": normal(2, 3)},
        SQUARE,
        normal(N, 2),
    ),
    "masked words": (
        lambda p, x, y: squares(jnp.where(x[1][..., None], p["e"][x[0]], 0).sum(1), y),
        {"e": normal(7, 3)},
        (WORDS, whole(0, 2, N, 4).astype(bool)),
        SQUARE,
    ),
    "words beyond the table": (
        lambda p, x, y: squares(p["t"].at[x].get(mode="fill", fill_value=2.5).sum(1), y),
        {"t": normal(6, 3)},
        WORDS,
        SQUARE,
    ),
    "bytes as words": (
        lambda p, x, y: squares(p["t"][x].sum(1), y),
        {"t": normal(300, 3)},
        whole(0, 255, N, 4).astype(jnp.uint8),
        SQUARE,
    ),
    "whole numbers as data": (
        lambda p, x, y: squares(x @ p["w"], y),
        {"w": normal(3, 2)},
        whole(0, 5, N, 3),
        normal(N, 2),
    ),
    "tied table": (
        lambda p, x, y: squares(jax.nn.log_softmax(jnp.tanh(p["e"][x] @ p["m"]) @ p["e"].T)[..., 0], y),
        {"e": normal(7, 3), "m": normal(3, 3)},
        whole(0, 7, N, 4),
        normal(N, 4),
    ),
    "unused and penalized": (
        lambda p, x, y: squares(x @ p["a"], y) + (p["a"] ** 2).sum() + p["c"].sum(),
        {"a": normal(3, 2), "b": normal(2), "c": normal(2)},
        SQUARE,
        normal(N, 2),
    ),
    "slices of a weight": (
        lambda p, x, y: squares(x @ p["w"][:, :2] + x @ p["w"][:, 2:], y),
        {"w": normal(3, 4)},
        SQUARE,
        normal(N, 2),
    ),
    "slice at a number of the sample": (
        each(lambda p, x, y: ((lax.dynamic_slice(p["w"], (y, 0), (2, 3)) @ x) ** 2).sum()),
        {"w": normal(5, 3)},
        SQUARE,
        whole(0, 5, N),
    ),
    "forward derivative": (
        lambda p, x, y: squares(sum(jax.jvp(lambda x: jnp.tanh(x @ p["w"]), (x,), (x,))), y),
        {"w": normal(3, 2)},
        SQUARE,
        normal(N, 2),
    ),
    "recurrent": (each(recurrent), {"i": normal(12, 2), "h": normal(12, 3), "b": normal(12)}, normal(N, 5, 2), SQUARE),
    "adapted": (each(adapted), {"w": normal(2, 3)}, SQUARE, normal(N, 2)),
    "chosen experts": (chosen_experts, {"g": normal(3, 4), "e": normal(4, 3, 2)}, SQUARE, normal(N, 2)),
    "largest singular value": (of_largest_singular_value, {"w": normal(2, 3)}, SQUARE, normal(N, 2)),
    "transposed convolution": (transposed_convolution, {"k": normal(3, 3, 2, 4)}, normal(N, 4, 4, 2), normal(N, 4)),
    "penalty of a gradient": (each(with_penalty), {"w": normal(4, 3), "v": normal(4)}, SQUARE, normal(N)),
    "associative scan": (averaged, {"a": normal(3), "b": normal(3)}, normal(N, 6, 3), normal(N, 6, 3)),
    "a key of each sample": (with_keys, {"w": normal(4, 3)}, (SQUARE, KEYS), normal(N, 4)),
    "scattered": (scattered, {"w": normal(4)}, whole(0, 8, N, 4), normal(N, 8)),
}
QUICK = ("cond", "own derivative with a number", "masked words")


@pytest.mark.parametrize("name", CASES)
def test_taps_are_right(name, long):
    if not (long or name in QUICK):
        pytest.skip("--long: three cases are enough for a first look")
    losses, params, x, y = CASES[name]
    problem = gk.FunctionProblem(losses, params)
    theta = problem.parameters()
    one = jax.jit(jax.grad(problem.loss))
    samples = [jax.tree.map(lambda part, i=i: part[i], (x, y)) for i in range(N)]
    rows = [jax.tree.leaves(one(theta, *sample)) for sample in samples]
    flat = np.stack([np.concatenate([np.ravel(part) for part in row]) for row in rows])
    asked = {"norms": {}, "gram": {}, "weighted_sum": {"weights": jnp.arange(1.0, N + 1)}, "inner": {"v": theta}}
    computes = {quantity: gk.kernel(f"jax.hooks.{quantity}").build(problem) for quantity in asked}
    found = jax.jit(lambda *inputs: {key: one(*inputs, **asked[key]) for key, one in computes.items()})(theta, x, y)
    along = np.concatenate([np.ravel(part) for part in jax.tree.leaves(theta)])
    total = np.concatenate([np.ravel(part) for part in jax.tree.leaves(found["weighted_sum"])])
    near = {"rtol": 1e-9, "atol": 1e-9 * float(abs(flat).max()) ** 2}
    np.testing.assert_allclose(found["norms"], np.linalg.norm(flat, axis=1), **near)
    np.testing.assert_allclose(found["gram"], flat @ flat.T, **near)
    np.testing.assert_allclose(found["inner"], flat @ along, **near)
    np.testing.assert_allclose(total, np.arange(1.0, N + 1) @ flat, **near)
