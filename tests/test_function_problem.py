"""Any JAX function as a problem: gradients of the structure of its params, proven, and refused where there are none."""

import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradkernels as gk
from gradkernels.dispatch.audit import AuditWarning
from gradkernels.dispatch.functions import dispatcher, proof
from gradkernels.dispatch.functions.results import restored
from gradkernels.quantities.clipped_sum_by import Clipped
from gradkernels.quantity import quantity


class Line(NamedTuple):
    slope: jax.Array
    level: jax.Array


PARAMS = {"lines": [Line(jnp.array([2.0, -1.0]), jnp.array(1.0))], "power": 2}
X, Y = jnp.array([[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]]), jnp.array([2.0, 0.0, 3.0])
RESIDUALS = np.array([1.0, 2.0, -3.0])  # 2 x0 - x1 + 1 - y
SLOPES = 2 * RESIDUALS[:, None] * np.asarray(X)


def losses(params, x, y):
    line = params["lines"][0]
    return (x @ line.slope + line.level - y) ** params["power"]


def mixing(params, x, y):
    found = losses(params, x, y)
    return found / found.mean()


@pytest.fixture(scope="module")
def problem():
    return gk.FunctionProblem(losses, PARAMS, example=(X, Y))


def test_rows_have_the_structure_of_params(problem):
    rows = gk.per_sample(problem, PARAMS, X, Y)
    assert rows["power"] is None
    assert type(rows["lines"][0]) is Line
    np.testing.assert_allclose(rows["lines"][0].slope, SLOPES, rtol=1e-6)
    np.testing.assert_allclose(rows["lines"][0].level, 2 * RESIDUALS, rtol=1e-6)


def test_theta_is_that_of_the_call(problem):
    other = {"lines": [Line(jnp.array([0.0, 0.0]), jnp.array(0.0))], "power": None}
    rows = gk.per_sample(problem, other, X, Y)
    np.testing.assert_allclose(rows["lines"][0].level, -2 * np.asarray(Y))


def test_flat_rows_are_in_the_order_of_names(problem):
    assert gk.flat(problem).slices == {"lines.0.level": slice(0, 1), "lines.0.slope": slice(1, 3)}
    flat = gk.per_sample(problem, None, X, Y, flat=True)
    np.testing.assert_allclose(flat, np.column_stack([2 * RESIDUALS, SLOPES]), rtol=1e-6)


def test_norms_by_parameter_have_its_path(problem):
    found = gk.norms(problem, None, X, Y, by="parameter")
    assert [*found] == ["lines.0.level", "lines.0.slope"]
    np.testing.assert_allclose(found["lines.0.level"], [2, 4, 6])


def test_clipped_sums_and_directions_have_the_structure_of_params(problem):
    unclipped = gk.clipped_sum(problem, None, X, Y, max_norm=1e9)
    np.testing.assert_allclose(unclipped["lines"][0].slope, [10, 6], rtol=1e-6)
    np.testing.assert_allclose(gk.inner(problem, None, X, Y, v=unclipped).sum(), 10**2 + 6**2)


def test_sums_beside_norms_have_the_structure_of_params(problem):
    flat = {"lines.0.slope": jnp.ones(2)}  # a group that has not all parameters
    found = restored(problem, quantity("clipped_sum_by"), Clipped(flat, {"slopes": jnp.ones(3)}))
    assert found.sum["lines"][0].level is None
    assert found.sum["lines"][0].slope.tolist() == [1, 1]
    assert [*found.norms] == ["slopes"]


@pytest.mark.parametrize("key", ["jax.vmap.per_sample", "jax.loop.per_sample", "jax.grad.gradient"])
def test_ways_are_proven(problem, key):
    gk.check(key, gk.Case(problem, key.rsplit(".", 1)[1], 3, dtype="float32"))


def test_a_wrong_way_is_found(problem):
    def doubled(theta, x, y):
        return 2 * gk.kernel("jax.vmap+.norms").build(problem)(theta, x, y)

    with pytest.raises(gk.Disagreement, match="expected"):
        gk.check(doubled, gk.Case(problem, "norms", 3, dtype="float32"), library="jax")


def test_the_next_way_computes_where_one_is_wrong(monkeypatch):
    built = dispatcher.built

    def spoilt(kernel, problem):
        compute = built(kernel, problem)
        return (lambda *arrays: 1.01 * compute(*arrays)) if kernel.name == "vmap+" else compute

    monkeypatch.setattr(dispatcher, "built", spoilt)
    monkeypatch.setattr(proof, "built", spoilt)
    bound = gk.fastest(gk.FunctionProblem(losses, PARAMS), "norms", like=(None, X, Y))
    assert bound.kernel.key != "jax.vmap+.norms"
    assert "Disagreement" in bound.why
    np.testing.assert_allclose(bound(None, X, Y)[0], 2 * np.sqrt(2), rtol=1e-6)


def test_a_result_is_audited_again(monkeypatch):
    found = gk.FunctionProblem(losses, PARAMS)
    gk.norms(found, None, X, Y)
    built = dispatcher.built

    def spoilt(kernel, problem):
        compute = built(kernel, problem)
        return (lambda *arrays: compute(*arrays).at[1].multiply(1.01)) if kernel.name != "loop+" else compute

    monkeypatch.setattr(dispatcher, "built", spoilt)  # of the batch, and not of the samples that a proof takes
    with pytest.warns(AuditWarning, match="the next kernel computes from now on"):
        result = gk.norms(found, None, X, Y)
    np.testing.assert_allclose(result, np.sqrt((SLOPES**2).sum(1) + 4 * RESIDUALS**2), rtol=1e-6)


def test_what_a_function_finds_around_it_is_that_of_the_call():
    around = {"scale": np.ones(1)}

    def scaled(params, x, y):
        return around["scale"][0] * losses(params, x, y)

    found = gk.FunctionProblem(scaled, PARAMS)
    once = gk.norms(found, None, X, Y)
    around["scale"][0] = 3.0
    np.testing.assert_allclose(gk.norms(found, None, X, Y), 3 * once, rtol=1e-6)


def test_within_a_jit_of_the_caller(problem):
    expected = gk.norms(problem, None, X, Y)
    np.testing.assert_allclose(jax.jit(lambda x: gk.norms(problem, None, x, Y))(X), expected)
    with pytest.raises(ValueError, match="call it once outside"):
        jax.jit(lambda x: gk.norms(problem, None, x, Y[:2]))(X[:2])


@pytest.mark.parametrize("traced", [jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())])
@pytest.mark.parametrize("function", [gk.norms, gk.per_sample, gk.clipped_sum, gk.moments])
def test_a_first_call_within_a_jit_says_to_call_outside_first(function, traced):
    """The very first of the problem, when no kernel has been bound."""
    new = gk.FunctionProblem(losses, PARAMS)
    x = X[None] if traced is jax.vmap else X
    with pytest.raises(ValueError, match=f"^{function.__name__} of arrays .* call it once outside"):
        traced(lambda x: function(new, None, x, Y))(x)


def test_a_regression_within_a_jit_is_refused_in_a_sentence():
    slopes, x, y = jnp.ones(3), jnp.ones((4, 2)), jnp.ones(4)
    with pytest.raises(TypeError, match=r"^x is being traced by jax.jit, .* gk.FunctionProblem of the loss"):
        jax.jit(lambda x: gk.gradient(gk.LogisticRegression(), slopes, x, y))(x)


def test_a_constant_of_params_that_is_written_to_is_that_of_the_call():
    params = {"scale": np.array([1, 2]), "slope": jnp.array([2.0, -1.0])}
    found = gk.FunctionProblem(lambda p, x, y: (x * p["scale"]) @ p["slope"] - y, params)
    once = gk.norms(found, params, X, Y)
    params["scale"][:] = 3
    rows = 3 * np.asarray(X)
    assert float(abs(once[1] - np.linalg.norm(rows[1]))) > 1
    np.testing.assert_allclose(gk.norms(found, params, X, Y), np.linalg.norm(rows, axis=1), rtol=1e-6)


def test_params_may_be_donated():
    own = {"slope": jnp.array([2.0, -1.0])}
    found, now = gk.FunctionProblem(lambda p, x, y: (x @ p["slope"] - y) ** 2, own), {"slope": own["slope"] * 1}
    own["slope"].delete()
    rows = gk.per_sample(found, now, X, Y)
    np.testing.assert_allclose(rows["slope"][1], 2 * 1.0 * np.array([2.0, 3.0]))  # 2 (2 x0 - x1 - y) x
    with pytest.raises(ValueError, match="were donated since"):
        gk.per_sample(found, None, X, Y)


def test_bound_kernels_travel(problem):
    bound = pickle.loads(pickle.dumps(gk.fastest(problem, "norms", like=(None, X, Y))))
    np.testing.assert_allclose(bound(PARAMS, X, Y)[0], 2 * np.sqrt(2), rtol=1e-6)


def test_what_compares_samples_is_refused():
    with pytest.raises(ValueError, match="compares the samples of a batch"):
        gk.norms(gk.FunctionProblem(mixing, PARAMS), None, X, Y)


REFUSED = [
    (lambda p: gk.norms(p, {"lines": []}, X, Y), "theta has the structure"),
    (lambda p: gk.norms(p, PARAMS | {"power": 3}, X, Y), "make a FunctionProblem with these params"),
    (lambda p: gk.norms(p, None, X, Y[:2]), "as many in each array"),
    (lambda p: gk.norms(p, None, [X], Y), "x has a list"),
    (lambda p: gk.norms(p, None, X, Y, parameters="lines*"), "restricts modules"),
    (lambda p: gk.norms(gk.FunctionProblem(lambda *a: losses(*a).mean(), PARAMS), None, X, Y), "a loss of each sample"),
    (lambda p: gk.FunctionProblem(losses, {"power": 2}), "no arrays of real numbers"),
    (lambda p: gk.fastest(gk.FunctionProblem(losses, PARAMS), "norms", n=3), "no data to draw from"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_what_does_not_fit_is_said(problem, call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call(problem)
