"""Models of Flax and Equinox as functions of their parameters, against their own `jax.grad` of single samples."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from optax import contrib

import gradkernels as gk

KEY = jax.random.key(0)
X, Y = jax.random.normal(KEY, (3, 4), "float32"), jnp.array([0, 1, 1])
KEYS = jax.random.key_data(jax.random.split(KEY, 3))


def cross_entropy(logits, y):
    return jax.nn.logsumexp(logits, 1) - jnp.take_along_axis(logits, y[:, None], 1)[:, 0]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(0.5, deterministic=not train)(nn.LayerNorm()(nn.Dense(6)(x)))
        return nn.Dense(2)(nn.relu(x))


def linen():
    """With dropout, by a key of each sample."""
    net = Linen()

    def losses(params, x, y):
        def of_one(x, key):
            return net.apply(params, x, train=True, rngs={"dropout": jax.random.wrap_key_data(key)})

        return cross_entropy(jax.vmap(of_one)(*x), y)

    return losses, jax.jit(net.init)(KEY, X), (X, KEYS)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)
        self.dropout, self.norm = nnx.Dropout(0.5, rngs=rngs), nnx.BatchNorm(6, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.norm(self.first(x))))


def of_nnx():
    """Split into parameters and the rest: counts, keys and running means."""
    graph, params, rest = nnx.split(Nnx(nnx.Rngs(0)), nnx.Param, ...)
    return lambda params, x, y: cross_entropy(nnx.merge(graph, params, rest)(x), y), params, X


def equinox():
    """A module as it is: its activation and sizes are no parameters."""
    net = eqx.nn.MLP(4, 2, 6, 1, key=KEY)
    return lambda net, x, y: cross_entropy(jax.vmap(net)(x), y), net, X


def partitioned():
    """The parameters of a module apart from its rest, one layer of it frozen."""
    net = eqx.nn.MLP(4, 2, 6, 1, key=KEY)
    trained = eqx.tree_at(lambda tree: tree.layers[0].weight, jax.tree.map(eqx.is_inexact_array, net), False)
    params, rest = eqx.partition(net, trained)
    return lambda params, x, y: cross_entropy(jax.vmap(eqx.combine(params, rest))(x), y), params, X


@pytest.mark.parametrize("make", [linen, of_nnx, equinox, partitioned])
def test_models_of_libraries(make):
    losses, params, x = make()
    problem = gk.FunctionProblem(losses, params)
    theta, *data = problem.as_inputs(None, x, Y)
    found = problem.restored(gk.kernel("jax.hooks.clipped_sum").build(problem)(theta, *data, max_norm=0.5))
    wanted = _clipped_one_by_one(losses, params, x)
    assert jax.tree.structure(found) == jax.tree.structure(eqx.filter(params, eqx.is_inexact_array))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(eqx.apply_updates(params, found)) == jax.tree.structure(params)


def _clipped_one_by_one(losses, params, x):
    arrays, rest = eqx.partition(params, eqx.is_inexact_array)
    gradient = jax.jit(jax.grad(lambda arrays, x, y: losses(eqx.combine(arrays, rest), x, y)[0]))
    total = jax.tree.map(jnp.zeros_like, arrays)
    for i in range(3):
        row = gradient(arrays, jax.tree.map(lambda part, i=i: part[i : i + 1], x), Y[i : i + 1])
        length = np.sqrt(sum((np.asarray(part) ** 2).sum() for part in jax.tree.leaves(row)))
        weight = min(1, 0.5 / length)
        total = jax.tree.map(lambda a, b, weight=weight: a + weight * b, total, row)
    return total


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(x * self.param("scale", nn.initializers.ones, (4,), "float32"))


def test_what_makes_samples_depend_on_each_other_is_refused():
    net = Normalized()
    variables = jax.jit(net.init)(KEY, X)

    def losses(params, x, y):
        return cross_entropy(net.apply(variables | {"params": params}, x, mutable=["batch_stats"])[0], y)

    with pytest.raises(ValueError, match=r"batch normalization in training, dropout by one key"):
        gk.norms(gk.FunctionProblem(losses, variables["params"]), None, X, Y)


def test_keys_of_samples_are_asked_for_as_numbers():
    losses, params, _ = linen()
    with pytest.raises(TypeError, match=r"jax.random.key_data"):
        gk.norms(gk.FunctionProblem(losses, params), None, (X, jax.random.split(KEY, 3)), Y)


def test_what_optax_aggregates_is_a_clipped_sum():
    """As in optax's example of private training: it takes all rows, clips, averages, and adds noise, here none."""
    losses, net, _ = equinox()
    params, rest = eqx.partition(net, eqx.is_inexact_array)
    step = contrib.differentially_private_aggregate(l2_norm_clip=0.5, noise_multiplier=0.0, key=KEY)

    def of_one(params, x, y):
        return losses(eqx.combine(params, rest), x[None], y[None])[0]

    problem = gk.FunctionProblem(losses, net)
    clipped = gk.kernel("jax.hooks.clipped_sum").build(problem)

    @jax.jit
    def both(params, x, y):
        rows = jax.vmap(jax.grad(of_one), (None, 0, 0))(params, x, y)
        sums = problem.restored(clipped(problem.as_inputs(params, x, y)[0], x, y, max_norm=0.5))
        return step.update(rows, step.init(params))[0], jax.tree.map(lambda one: one / len(x), sums)

    theirs, ours = both(params, X, Y)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
