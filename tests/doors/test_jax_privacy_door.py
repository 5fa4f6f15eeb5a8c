"""jax_privacy's `clipped_grad` through the door: the same numbers as its own, and its own where taps do not serve."""

from inspect import signature

import dp_accounting
import jax
import jax.numpy as jnp
import jax_privacy
import numpy as np
import pytest

from gradkernels.adapters.jax_privacy import clipped_grad, clipped_gradients, decision
from gradkernels.adapters.jax_privacy.decision import Decision

pytestmark = pytest.mark.filterwarnings("ignore:optax.global_norm is deprecated:DeprecationWarning")  # jax_privacy's
N = 4
KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {"w": jax.random.normal(KEYS[0], (3, 2)), "b": jnp.array([0.5, -1.0]), "e": jnp.ones(())}
X, Y = jax.random.normal(KEYS[1], (N, 3)), jnp.array([0, 1, 1, 0])


def loss(params, x, y):
    logits = jnp.tanh(x @ params["w"] + params["b"]) * params["e"]
    return (jax.nn.logsumexp(logits, 1) - jnp.take_along_axis(logits, y[:, None], 1)[:, 0]).mean()


def line(params, x, y):
    return (x @ params["w"]).sum() ** 2


def loss_of_one(params, shift, x, y, key, flag, *, times):
    """A sample without its axis, a parameter that is none, dropout, a flag, and something beside the loss."""
    assert flag
    x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)
    return times * loss(params, (x + shift)[None], y[None]), {"x": x, "one": x[:1]}


@pytest.fixture
def by_taps(monkeypatch):
    monkeypatch.setattr(clipped_gradients, "decision_of", lambda call, options: Decision(True, "taps"))


def both(fun, static=(), **options):
    """Compute by both, jitted; the changed line is the only difference."""
    made = [jax.jit(make(fun, **options), static_argnums=static) for make in (clipped_grad, jax_privacy.clipped_grad)]

    def compared(*args, **keywords):
        ours, own = (one(*args, **keywords) for one in made)
        assert jax.tree.structure(ours) == jax.tree.structure(own)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, strict=True), ours, own)
        return own

    return compared


USUAL = {"l2_clip_norm": 0.3, "batch_argnums": (1, 2)}


def test_every_output_in_parts_with_padding(by_taps):
    compared = both(
        loss_of_one,
        static=5,
        argnums=(1, 0),
        has_aux=True,
        batch_argnums=(2, 3),
        keep_batch_dim=False,
        prng_argnum=4,
        l2_clip_norm=0.3,
        rescale_to_unit_norm=True,
        normalize_by=2.0,
        return_values=True,
        return_grad_norms=True,
        microbatch_size=2,
    )
    padding = jnp.array([False, False, True, True])  # parts of two are samples 0 and 2, 1 and 3
    gradients, beside = compared(
        *(PARAMS, jnp.ones(3), X, Y, KEYS[2], True), times=jnp.arange(1.0, 5.0), is_padding_example=padding
    )
    assert gradients[0].shape == (3,)
    assert beside.values.all()


def test_what_is_not_finite_counts_as_zero(by_taps):
    compared = both(loss, return_grad_norms=True, **USUAL)
    for not_a_number, left_out in ((1, 3), (1, 1)):
        x, padding = X.at[not_a_number, 0].set(jnp.nan), jnp.arange(N) == left_out
        gradient, beside = compared(PARAMS, x, Y, is_padding_example=padding)
        assert np.isfinite(gradient["w"]).all()
        assert np.isnan(beside.grad_norms).tolist() == [False, True, False, False]


def test_a_sum_alone_is_no_tuple(by_taps):
    ours, own = (jax.eval_shape(make(loss, **USUAL), PARAMS, X, Y) for make in (clipped_grad, jax_privacy.clipped_grad))
    assert ours == own


def test_signature_and_sensitivity_are_those_of_jax_privacy():
    assert signature(clipped_grad) == signature(jax_privacy.clipped_grad)
    replaced = dp_accounting.NeighboringRelation.REPLACE_ONE
    found = clipped_grad(loss, normalize_by=4.0, **USUAL)
    assert isinstance(found, jax_privacy.clipping.BoundedSensitivityCallable)
    assert found.sensitivity(replaced) == 2 * 0.3 / 4


def why(fun, params=PARAMS, call=jax.eval_shape, **options):
    made = clipped_grad(fun, **USUAL, **options)
    call(made, params, X, Y)
    return made.fun.why


def test_taps_are_proven_and_timed_within_jit(monkeypatch):
    monkeypatch.setattr(decision, "_decisions", {})
    monkeypatch.setattr(decision, "_seconds", lambda by, *inputs: float(next(turns)))
    turns = iter([1, 2] * decision.TIMED_TURNS + [3, 2] * decision.TIMED_TURNS)
    assert why(line) == "taps: taps took 0.50 of jax_privacy's time on 4 samples that were drawn"
    assert why(line).startswith("taps")  # known, and not timed again
    assert why(lambda *given: 2 * line(*given)).startswith("jax_privacy: taps took 1.50")


@pytest.mark.parametrize("spoilt", ["norm", "sample"])
def test_wrong_sums_are_found(monkeypatch, spoilt):
    right = decision.tapped_sum

    def wrong(closed, options, theta, batch, padding):
        sums, outputs, norms = right(closed, options, theta, batch, padding)
        if spoilt == "norm":
            return sums, outputs, norms.at[2].multiply(1.001)
        return [1.01 * one for one in sums], outputs, norms

    monkeypatch.setattr(decision, "_decisions", {})
    monkeypatch.setattr(decision, "tapped_sum", wrong)
    assert "Disagreement: taps are off" in why(line)


HALF = jax.tree.map(lambda one: one.astype(jnp.bfloat16), PARAMS)


@pytest.mark.parametrize(
    ("says", "call"),
    [
        ("outside of jax.jit", lambda: why(line, call=lambda f, *given: f(*given))),
        ("one dtype, float32 or float64", lambda: why(loss, HALF)),
        ("asked for in bfloat16", lambda: why(loss, dtype=jnp.bfloat16)),
        ("no parameter is used by one", lambda: why(lambda p, x, y: (x * p["e"] - 1).sum())),
    ],
)
def test_what_is_left_to_jax_privacy(says, call):
    assert says in call()


def test_a_transform_of_gradients_is_left_to_jax_privacy():
    assert not hasattr(clipped_grad(loss, pre_clipping_transform=jnp.abs, **USUAL).fun, "why")


def test_errors_are_those_of_jax_privacy():
    with pytest.raises(ValueError, match="Batch axis must have the same size"):
        jax.jit(clipped_grad(loss, **USUAL))(PARAMS, X, Y[:2])
    with pytest.raises(ValueError, match="overlap"):
        clipped_grad(loss, l2_clip_norm=1.0, batch_argnums=0)
