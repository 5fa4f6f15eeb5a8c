"""Taps on the equations of a JAX function: norms, sums and products without rows, equal to single-sample gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.taps.contributions import contributions
from gradkernels.quantities.project import matrix_blocks

N, T, D = 3, 4, 5
RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.standard_normal((N, T, D))), jnp.asarray(RNG.standard_normal(N))
WORDS = jnp.array([[0, 2, 2, 6], [1, 1, 1, 1], [5, 0, 3, 4]])


def weight(*shape):
    return jnp.asarray(np.random.default_rng(shape).standard_normal(shape)) / 2


def scanned(p, x, y):
    def step(h, now):
        h = jnp.tanh(h @ p["w"] + now @ p["u"])
        return h, None

    return (jax.lax.scan(step, jnp.zeros((len(x), 3)), x.transpose(1, 0, 2))[0].sum(1) - y) ** 2


def convolved(p, x, y):
    return (jnp.tanh(jax.lax.conv_general_dilated(x, p["w"], (1,), "SAME") + p["b"][:, None]).sum((1, 2)) - y) ** 2


def counted(p, x, y):
    def steps(row):
        """A loop that has no backward pass, on the sample and on what no derivative goes into."""
        cut = jax.lax.stop_gradient(p["w"])
        return jax.lax.while_loop(lambda s: s < 5, lambda s: s + 1 + jnp.abs(row @ cut).sum(), 0.0)

    return jax.vmap(steps)(x) * (x @ p["w"]).sum((1, 2)) * y


def checkpointed(p, x, y):
    part = jax.checkpoint(lambda w, x: jax.jit(jnp.tanh)(x @ w))
    return part(p["w"], x).sum((1, 2)) * jax.nn.softplus(p["c"]).sum() * y


# Each: params, losses, inputs, and which parameters, by name in order, have factors instead of rows.
PROGRAMS = {
    "dense": (
        {"b": weight(3), "h": weight(T * 3, 2), "w": weight(D, 3)},
        lambda p, x, y: (jax.nn.relu(x @ p["w"] + p["b"]).reshape(len(x), -1) @ p["h"]).sum(1) ** 2 - y,
        X,
        [1, 2],
    ),
    "dense once": (
        {"h": weight(4, 2), "w": weight(4, T * D)},
        lambda p, x, y: (jnp.tanh(x.reshape(len(x), -1) @ p["w"].T) @ p["h"]).sum(1) ** 2 * y,
        X,
        [0, 1],
    ),
    "weight first and transposed": (
        {"w": weight(3, D)},
        lambda p, x, y: jnp.sin(jnp.einsum("oi,nti->not", p["w"], x)).sum((1, 2)) * y,
        X,
        [0],
    ),
    "shared": ({"w": weight(D, D)}, lambda p, x, y: (jnp.sin(x @ p["w"]) @ p["w"].T).sum((1, 2)) * y, X, []),
    "made of others": (
        {"g": weight(3), "v": weight(D, 3)},
        lambda p, x, y: (
            (x @ (p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0))).sum((1, 2)) ** 2 + (p["v"] ** 2).sum() * y
        ),
        X,
        [],
    ),
    "embedding": (
        {"e": weight(7, 3), "w": weight(3, 2)},
        lambda p, x, y: (jnp.tanh(p["e"][x] @ p["w"]).sum((1, 2)) - y) ** 2,
        WORDS,
        [0, 1],
    ),
    "convolution": ({"b": weight(3), "w": weight(3, T, 2)}, convolved, X, [1]),
    "convolution with steps, gaps and channels last": (
        {"w": weight(3, 2, 1, 3)},
        lambda p, x, y: (
            jnp.tanh(
                jax.lax.conv_general_dilated(
                    *(x[..., None], p["w"], (2, 1), [(2, 1), (-1, 2)], (2, 1), (1, 2)),
                    dimension_numbers=("NHWC", "HWIO", "NWHC"),
                )
            ).sum((1, 2, 3))
            * y
        ),
        X,
        [0],
    ),
    "convolution in groups": (
        {"w": weight(T, 1, 2)},
        lambda p, x, y: (
            jnp.tanh(jax.lax.conv_general_dilated(x, p["w"], (1,), "SAME", feature_group_count=T)).sum((1, 2)) * y
        ),
        X,
        [],
    ),
    "scan": ({"u": weight(D, 3), "w": weight(3, 3)}, scanned, X, []),
    "loop that is cut off": ({"w": weight(D, 3)}, counted, X, [0]),
    "no entries": (
        {"e": jnp.zeros((0, 3)), "w": weight(D, 3)},
        lambda p, x, y: (x @ p["w"] + x[..., :0] @ p["e"]).sum((1, 2)) * y,
        X,
        [1],
    ),
    "checkpoint and jit": ({"c": weight(3), "w": weight(D, 3)}, checkpointed, X, [1]),
}


def rows_of(p, losses, x):
    """One `jax.grad` for each sample, flat."""
    one = jax.jit(jax.grad(lambda *inputs: losses(*inputs)[0]))
    rows = [jax.tree.leaves(one(p, x[i : i + 1], Y[i : i + 1])) for i in range(N)]
    return np.stack([np.concatenate([np.ravel(part) for part in row]) for row in rows])


@pytest.fixture(scope="module", params=PROGRAMS, ids=lambda name: name.replace(" ", "_"))
def program(request):
    p, losses, x, uses = PROGRAMS[request.param]
    return gk.FunctionProblem(losses, p), x, uses, rows_of(p, losses, x)


def build(quantity, problem):
    return gk.kernel(f"jax.hooks.{quantity}").build(problem)


def test_norms_and_which_parameters_need_no_rows(program):
    problem, x, uses, rows = program
    found = build("norms", problem)(problem.parameters(), x, Y)
    np.testing.assert_allclose(found, np.linalg.norm(rows, axis=1), rtol=1e-12)
    seen = []
    jax.eval_shape(lambda *inputs: seen.append(contributions(problem.loss, *inputs)), problem.parameters(), x, Y)
    (left,) = seen
    assert sorted(use.leaf for use in left.uses) == uses
    assert sorted([*left.rows, *uses]) == [*range(len(problem.parameters()))]


def test_products_of_samples(program):
    problem, x, _, rows = program
    found = build("gram", problem)(problem.parameters(), x, Y, other=(x[::-1], Y[::-1]))
    np.testing.assert_allclose(found, rows @ rows[::-1].T, rtol=1e-9, atol=1e-12)


WEIGHTS = jnp.array([[1.0, 0.5], [-2.0, 0.0], [3.0, 1.0]])


@pytest.mark.parametrize("name", ["dense", "dense once", "embedding", "made of others", "convolution"])
def test_sums_directions_moments_groups_and_projections(name):
    """All from one compiled program: what is equal in them is compiled and computed once."""
    p, losses, x, _ = PROGRAMS[name]
    problem, rows = gk.FunctionProblem(losses, p), rows_of(p, losses, x)
    lengths, names = np.linalg.norm(rows, axis=1), sorted(p)
    limit, by = float(np.median(lengths)), (("first", (names[0],)), ("others", (*names[1:],) or (names[0],)))
    direction = {one: jnp.ones((2, *p[one].shape)) * jnp.array([1.0, 2.0]).reshape(2, *[1] * p[one].ndim) for one in p}
    asked = {
        "clipped_sum": {"max_norm": limit},
        "inner": {"v": direction},
        "weighted_sum": {"weights": WEIGHTS},
        "moments": {},
        "norms_by": {"by": by},
        "project": {"size": 6, "seed": 1, "kind": "factored"},
    }
    computes = {quantity: build(quantity, problem) for quantity in asked}

    @jax.jit
    def all_of(p, x):
        return {quantity: compute(p, x, Y, **asked[quantity]) for quantity, compute in computes.items()}

    found = all_of(p, x)
    ends = np.cumsum([p[one].size for one in names])
    groups = rows[:, : ends[0]], rows[:, ends[0] :] if len(names) > 1 else rows
    matrix = np.concatenate([block for _, block in matrix_blocks(p, **asked["project"])], 1)
    wanted = {
        "clipped_sum": np.minimum(1, limit / lengths) @ rows,
        "inner": np.outer(rows.sum(1), [1, 2]),
        "weighted_sum": np.asarray(WEIGHTS).T @ rows,
        "norms_by": np.stack([np.linalg.norm(one, axis=1) for one in groups], 1),
        "project": rows @ matrix.T,
    }
    found["norms_by"] = jnp.stack([*found["norms_by"].values()], 1)
    moments = found.pop("moments")
    pairs = [(found[key], wanted[key]) for key in wanted]
    for one, expected in [*pairs, (moments[0], rows.mean(0)), (moments[1], rows.var(0))]:
        flat = flattened(one, names, expected.shape[:-1])
        np.testing.assert_allclose(flat, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


def flattened(found, names, leading):
    """A result by parameter as one array, its leading axes kept; an array as it is."""
    if not isinstance(found, dict):
        return found
    return np.concatenate([found[name].reshape(*leading, -1) for name in names], -1)


def test_rows_that_cancel_keep_their_digits():
    x = np.ones((2, 2, 16), np.float32)
    x[:, 1] += np.float32(2.0**-12)
    w = {"w": jnp.ones((16, 16), jnp.float32)}
    # The gradient is x0 - x1 in each of 16 columns.
    problem = gk.FunctionProblem(lambda p, x, y: ((x[:, 0] - x[:, 1]) @ jnp.eye(16)).sum(1) * 0 + _off(p, x), w)
    found = build("norms", problem)(w, jnp.asarray(x), jnp.zeros(2))
    np.testing.assert_allclose(found, 16 * 2.0**-12, rtol=1e-6)


def _off(p, x):
    out = x @ p["w"]
    return (out[:, 0] - out[:, 1]).sum(1)


def test_small_and_large_numbers_stay_in_range():
    w = {"w": jnp.ones((16, 16), jnp.float32)}
    problem = gk.FunctionProblem(lambda p, x, y: (x @ p["w"]).sum((1, 2)), w)
    x = jnp.ones((1, 2, 16), jnp.float32)
    for scale in (1e-30, 1e25):
        found = build("norms", problem)(w, scale * x, jnp.zeros(1))
        np.testing.assert_allclose(found, scale * 2 * 16, rtol=1e-6)


def test_products_of_squares_that_leave_the_range_are_left_to_rows():
    w = {"w": jnp.ones((16, 16), jnp.float32)}
    problem = gk.FunctionProblem(lambda p, x, y: 0.05 * (x @ p["w"]).sum((1, 2)), w)
    # Of the squares, that of the first row is a number, and twice its product with the second is flushed to zero.
    x = jnp.ones((1, 2, 16), jnp.float32) * jnp.array([1e-18, 1e-20])[None, :, None].astype("float32")
    np.testing.assert_allclose(build("norms", problem)(w, x, jnp.zeros(1)), 16 * 0.05 * 1.01e-18, rtol=1e-5)


def test_what_cannot_be_tapped_is_refused():
    problem = gk.FunctionProblem(lambda p, x, y: jnp.ones(len(y)) * (p["w"] ** 2).sum(), {"w": weight(2)})
    with pytest.raises(Unfit, match="depends on the sample"):
        build("norms", problem)(problem.parameters(), X, Y)
    np.testing.assert_allclose(gk.norms(problem, None, X, Y), 2 * np.linalg.norm(weight(2)) * np.ones(3))


def test_a_weight_of_nan_times_a_row_of_zeros_is_nan():
    def losses(theta, x, y):
        return ((theta["table"][x].mean(1) - y) ** 2).mean(1)

    theta = {"table": np.ones((4, 2), np.float32), "unused": np.ones(2, np.float32)}
    problem, weights = gk.FunctionProblem(losses, theta), np.array([1, np.nan], np.float32)
    compute = gk.kernel("jax.hooks.weighted_sum").build(problem)
    data = theta, np.array([[0, 1], [1, 2]]), np.zeros((2, 2), np.float32)
    assert all(np.isnan(np.asarray(one)).all() for one in compute(*data, weights=weights).values())
    assert all(np.isfinite(np.asarray(one)).all() for one in compute(*data, weights=np.ones(2, np.float32)).values())
