"""The dispatching functions and `fastest`: conventions, refusals, forcing, `out=`, caching."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels.dispatch.bound_kernels import forget_choices
from gradkernels.fastest import per_sample
from gradkernels.problems import Problem

P = gk.LinearRegression()
# y = 1 + 2 x + residual (1, -1, 2) at theta = (1, 2), so slopes are -2, 2, -4.
THETA, X = np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0])
Y = 1 + 2 * X + np.array([1.0, -1.0, 2.0])
ROWS = np.array([[-2.0, 0.0], [2.0, 2.0], [-4.0, -12.0]])


def to_jax(array):
    import jax.numpy as jnp

    return jnp.asarray(array)


LIBRARIES = {"numpy": np.asarray, "torch": torch.from_numpy, "jax": to_jax}


@pytest.fixture(autouse=True)
def fresh_dispatch():
    forget_choices()


@pytest.fixture(params=LIBRARIES)
def arrays(request):
    put = LIBRARIES[request.param]
    return put(THETA), put(X), put(Y)


# What is compiled for seconds at every shape has tests of its own, in test_compiled.py.
WAYS = sorted({kernel.way.replace("+", "") for kernel in gk.kernels(P, "per_sample")} - {"torch.compiled"})


@pytest.mark.parametrize("way", [None, *WAYS])
def test_every_function_gives_its_literal_result_in_the_callers_library(arrays, way):
    mean = np.array([-4 / 3, -10 / 3])
    results = {
        "gradient": (gk.gradient(P, *arrays, kernel=way), mean),
        "per_sample": (gk.per_sample(P, *arrays, kernel=way), ROWS),
        "norms": (gk.norms(P, *arrays, kernel=way), [2.0, 8**0.5, 160**0.5]),
        "mean": (gk.moments(P, *arrays, kernel=way).mean, mean),
        "variance": (gk.moments(P, *arrays, kernel=way).variance, [56 / 9, 344 / 9]),
        "clipped": (gk.clipped_sum(P, *arrays, 2.0, kernel=way), [-2 + 2**0.5 - 0.4**0.5, 2**0.5 - 3 * 0.4**0.5]),
    }
    for name, (got, want) in results.items():
        assert type(got) is type(arrays[0]), name
        assert str(got.dtype).endswith("float64"), name
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_in_is_the_dtype_out(dtype):
    given = [array.astype(dtype) for array in (THETA, X, Y)]
    assert gk.gradient(P, *given).dtype == gk.norms(P, *given).dtype == dtype
    assert gk.moments(P, *given, kernel="torch.vmap").variance.dtype == dtype


def test_one_feature_may_have_a_column_of_its_own_and_the_intercept_may_be_left_out():
    np.testing.assert_allclose(gk.per_sample(P, THETA, X[:, None], Y), ROWS)
    q = gk.LinearRegression(fit_intercept=False)
    np.testing.assert_allclose(gk.per_sample(q, THETA[1:], X, Y - 1), ROWS[:, 1:])


def test_no_sample_gives_no_row_and_no_mean():
    none = (THETA, X[:0], Y[:0])
    assert gk.per_sample(P, *none).shape == (0, 2)
    assert gk.norms(P, *none).shape == (0,)
    assert gk.clipped_sum(P, *none).tolist() == [0.0, 0.0]
    for function in (gk.gradient, gk.moments):
        with pytest.raises(ValueError, match="n = 0"):
            function(P, *none)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_spoils_its_own_row_only(odd):
    y = Y.copy()
    y[1] = odd
    rows = gk.per_sample(P, THETA, X, y)
    assert np.isfinite(rows).all(axis=1).tolist() == [True, False, True]
    assert np.isfinite(gk.norms(P, THETA, X, y)).tolist() == [True, False, True]


def test_inputs_are_neither_modified_nor_aliased():
    before = [array.copy() for array in (THETA, X, Y)]
    first, second = gk.per_sample(P, THETA, X, Y), gk.per_sample(P, THETA, X, Y)
    assert not np.shares_memory(first, second)
    for array, copy in zip((THETA, X, Y), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_tensors_that_require_gradients_give_results_that_do_not():
    theta = torch.from_numpy(THETA).requires_grad_()
    for way in (None, "torch.vmap", "torch.loop"):
        assert not gk.per_sample(P, theta, torch.from_numpy(X), torch.from_numpy(Y), kernel=way).requires_grad


@pytest.mark.parametrize("way", [None, *WAYS])
def test_out_is_filled_and_returned(way):
    out = np.full((3, 2), np.nan)
    assert gk.per_sample(P, THETA, X, Y, out=out, kernel=way) is out
    np.testing.assert_allclose(out, ROWS)
    norms = np.full(3, np.nan)
    assert gk.fastest(P, "norms", like=(THETA, X, Y), kernel=way)(THETA, X, Y, out=norms) is norms
    np.testing.assert_allclose(norms, [2.0, 8**0.5, 160**0.5])


@pytest.mark.parametrize(
    ("out", "error", "says"),
    [
        (np.empty((2, 2)), ValueError, r"must be \(3, 2\) float64"),
        (np.empty((3, 2), np.float32), ValueError, r"out is \(3, 2\) float32"),
        (torch.empty(3, 2, dtype=torch.float64), TypeError, "same library"),
        ([[0.0] * 2] * 3, TypeError, "same library"),
        (np.ma.zeros((3, 2)), TypeError, r"pass numpy.asarray\(out\)"),
        (np.broadcast_to(np.empty(2), (3, 2)), ValueError, "read-only"),
    ],
)
def test_memory_that_does_not_fit_is_refused(out, error, says):
    with pytest.raises(error, match=says):
        gk.per_sample(P, THETA, X, Y, out=out)


def test_a_tensor_that_requires_gradients_is_no_memory_for_results():
    out = torch.empty(3, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"pass out.detach\(\)"):
        gk.per_sample(P, *map(torch.from_numpy, (THETA, X, Y)), out=out)


def test_a_tensor_that_torch_negates_only_when_read_is_an_input_like_any_other():
    theta, x, y = map(torch.from_numpy, (THETA, X, Y))
    negated = torch.conj(torch.complex(y, -y)).imag
    assert negated.is_neg()
    np.testing.assert_allclose(gk.per_sample(P, theta, x, negated, kernel="numpy.broadcast"), ROWS)


def test_memory_of_an_input_is_refused_and_the_input_kept():
    y = Y.copy()
    with pytest.raises(ValueError, match="shares memory"):
        gk.norms(P, THETA, X, y, out=y)
    np.testing.assert_array_equal(y, Y)
    with pytest.raises(TypeError, match="out"):
        gk.fastest(P, "gradient", n=3)(THETA, X, Y, out=np.empty(2))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ((THETA.astype(int), X, Y), TypeError, "theta is int64; allowed are float64 and float32"),
        ((list(THETA), X, Y), TypeError, "theta is a builtins.list; allowed are arrays of numpy, torch, jax"),
        ((THETA, X.astype("f4"), Y), TypeError, "mixed dtype: theta float64, x float32, y float64"),
        ((THETA, torch.from_numpy(X), Y), TypeError, "mixed library: theta numpy, x torch, y numpy"),
        ((THETA, X.astype(">f8"), Y), TypeError, "foreign byte order"),
        ((THETA, X.astype(complex), Y), TypeError, "x is complex128"),
        ((THETA, X, Y[:2]), ValueError, r"x \(3,\), y \(2,\): x must be \(n, d\)"),
        ((THETA[:1], X, Y), ValueError, r"theta must be \(2,\) for 1 feature, intercept first"),
        ((THETA, X[:, None, None], Y), ValueError, r"x must be \(n, d\)"),
    ],
)
def test_input_that_cannot_be_right_is_refused_in_a_sentence(given, error, says):
    for _ in range(2):  # the second call must not find a kernel kept from the first
        with pytest.raises(error, match=says):
            gk.gradient(P, *given)


def test_mixed_dtypes_are_refused_also_after_a_call_that_was_right():
    gk.gradient(P, THETA, X, Y)
    with pytest.raises(TypeError, match="mixed dtype"):
        gk.gradient(P, THETA, X.astype("f4"), Y)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_masked_arrays_are_refused_also_after_a_call_that_was_right(which):
    arrays = [THETA, X, Y]
    gk.norms(P, *arrays)
    arrays[which] = np.ma.masked_array(arrays[which], False)
    with pytest.raises(TypeError, match="masks are not heeded"):
        gk.norms(P, *arrays)


def test_a_problem_that_is_none_is_refused():
    with pytest.raises(TypeError, match="pass a Problem"):
        gk.gradient("linear", THETA, X, Y)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan"), None, np.ones(2)])
def test_a_clipping_norm_must_be_positive(max_norm):
    with pytest.raises(ValueError, match="must be positive"):
        gk.clipped_sum(P, THETA, X, Y, max_norm)


def test_a_clipping_norm_computed_by_numpy_keeps_the_dtype():
    arrays = [array.astype("f4") for array in (THETA, X, Y)]
    assert gk.clipped_sum(P, *arrays, np.float64(2)).dtype == "float32"
    assert gk.fastest(P, "clipped_sum", like=arrays)(*arrays, max_norm=np.float64(2)).dtype == "float32"


def test_a_bound_kernel_clips_to_one_unless_it_is_told():
    clipped = [-1 + 0.5**0.5 - 0.1**0.5, 0.5**0.5 - 3 * 0.1**0.5]
    np.testing.assert_allclose(gk.fastest(P, "clipped_sum", n=3)(THETA, X, Y), clipped, rtol=1e-15)


def test_an_infinite_clipping_norm_clips_nothing():
    np.testing.assert_allclose(gk.clipped_sum(P, THETA, X, Y, float("inf")), ROWS.sum(0))


def test_forcing_takes_a_way_a_key_or_settings():
    like = (THETA, X, Y)
    for name, key in (
        ("numpy.broadcast", "numpy.broadcast+.gradient"),
        ("numpy.matmul", "numpy.matmul.gradient"),
        ("torch.vmap+.gradient", "torch.vmap+.gradient"),
        ("torch.vmap[chunk=2]", "torch.vmap+[chunk=2].gradient"),
    ):
        bound = gk.fastest(P, "gradient", like=like, kernel=name)
        assert bound.kernel.key == key
        assert name in bound.why or key in bound.why
        np.testing.assert_allclose(bound(*like), ROWS.mean(0))


def test_forcing_takes_a_kernel_also_one_that_is_not_registered():
    like = (THETA, X, Y)
    np.testing.assert_allclose(gk.norms(P, *like, kernel=gk.kernel("numpy.loop+.norms")), [2.0, 8**0.5, 160**0.5])
    own = replace(gk.kernel("numpy.matmul.gradient"), name="own")
    assert gk.fastest(P, "gradient", n=3, kernel=own).why.startswith("numpy.own.gradient, because")
    with pytest.raises(ValueError, match="numpy.own.gradient computes gradient, not norms"):
        gk.norms(P, *like, kernel=own)


def seeing(way, seen):
    """A kernel that notes what it is given."""

    def build(problem):
        compute = gk.kernel(f"{way}.per_sample").build(problem)

        def call(theta, x, y, out=None):
            seen[:] = theta, x, y, out
            return compute(theta, x, y) if out is None else compute(theta, x, y, out=out)

        return call

    return replace(gk.kernel(f"{way}.per_sample"), name="seeing", builder=build)


def test_a_kernel_of_the_callers_library_is_given_the_callers_arrays_and_memory_themselves():
    seen, tensors = [], tuple(map(torch.from_numpy, (THETA, X, Y)))
    for way, arrays in (("numpy.broadcast", (THETA, X, Y)), ("torch.closed", tensors)):
        gk.per_sample(P, *arrays, kernel=seeing(way, seen))
        assert all(one is given for one, given in zip(seen, (*arrays, None), strict=True))
    out = np.empty((3, 2))
    gk.per_sample(P, THETA, X, Y, out=out, kernel=seeing("numpy.broadcast", seen))
    assert seen[3] is out
    gk.per_sample(P, *tensors, out=torch.empty(3, 2, dtype=torch.float64), kernel=seeing("numpy.broadcast", seen))
    assert seen[3] is None, "what it writes to must be of its own library"


def test_a_bound_kernel_looks_at_targets_at_each_call_and_converts_what_it_was_bound_for():
    seen, problem, classes = [], gk.LogisticRegression(), np.array([0, 1, 1])
    floats = gk.fastest(problem, "per_sample", like=(THETA, X, classes * 1.0), kernel=seeing("numpy.broadcast", seen))
    whole = gk.fastest(problem, "per_sample", like=(THETA, X, classes), kernel=seeing("numpy.broadcast", seen))
    np.testing.assert_array_equal(whole(THETA, X, classes), floats(THETA, X, classes * 1.0))
    whole(THETA, X, classes)
    assert seen[2].dtype == np.float64
    for bound, odd in ((whole, np.array([0, 1, 2])), (floats, np.array([0.0, 1.0, 2.0]))):
        with pytest.raises(ValueError, match=r"y\[2\] is 2"):
            bound(THETA, X, odd)


def test_a_kernel_that_is_wrong_for_the_problem_is_refused_at_its_first_use():
    @gk.declare("numpy.half.gradient")
    def half(problem):
        slow = gk.kernel("numpy.matmul.gradient").build(problem)
        return lambda theta, x, y: slow(theta, x, y) / 2

    with pytest.raises(gk.Disagreement, match="numpy.half.gradient on linear"):
        gk.gradient(P, THETA, X, Y, kernel=half)


def test_a_loss_whose_closed_form_was_forgotten_gives_no_gradient_rather_than_a_wrong_one():
    class Halved(gk.LinearRegression):
        def loss_of(self, xp, eta, y):
            return super().loss_of(xp, eta, y) / 2

    with pytest.raises(gk.Disagreement, match=r"numpy\.matmul\.gradient"):
        gk.gradient(Halved(), THETA, X, Y, kernel="numpy.matmul")
    with pytest.raises(gk.Disagreement, match=r"\.gradient on linear"):
        gk.gradient(Halved(), THETA, X, Y)
    np.testing.assert_allclose(gk.gradient(Halved(), THETA, X, Y, kernel="torch.autograd"), ROWS.mean(0) / 2)


def test_a_problem_without_a_hash_is_refused_and_told_how_to_get_one():
    @dataclass
    class Changeable(Problem):
        name = "changeable"
        loss = shape = draw = draw_theta = validate = None

    with pytest.raises(TypeError, match=r"declare it with @dataclass\(frozen=True\)"):
        gk.gradient(Changeable(), THETA, X, Y)


def test_forcing_what_is_not_there_names_what_is_near():
    with pytest.raises(ValueError, match="did you mean numpy.broadcast"):
        gk.gradient(P, THETA, X, Y, kernel="numpy.brodcast")
    with pytest.raises(ValueError, match="no kernel for per_sample 'torch.autograd'"):
        gk.per_sample(P, THETA, X, Y, kernel="torch.autograd")
    with pytest.raises(ValueError, match="did you mean chunk"):
        gk.norms(P, THETA, X, Y, kernel="torch.vmap[chunks=2]")


def test_fastest_wants_exactly_one_of_n_and_like():
    with pytest.raises(ValueError, match="not neither"):
        gk.fastest(P, "gradient")
    with pytest.raises(ValueError, match="not both"):
        gk.fastest(P, "gradient", n=3, like=(THETA, X, Y))


@pytest.mark.parametrize("given", [{"threads": 0}, {"calls": 0}, {"calls": -3}, {"max_bytes": -1}])
def test_fastest_refuses_numbers_that_mean_nothing(given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} is .*at least 1, or None"):
        gk.fastest(P, "gradient", n=3, **given)


@pytest.mark.parametrize("given", [{"threads": 1.5}, {"calls": "many"}, {"max_bytes": "1GB"}])
def test_fastest_refuses_what_is_no_whole_number(given):
    ((name, value),) = given.items()
    with pytest.raises(TypeError, match=f"{name} is {value!r}; it must be a whole number of at least 1, or None"):
        gk.fastest(P, "gradient", n=3, **given)


def test_bytes_are_a_whole_number_for_a_quantity_too():
    with pytest.raises(TypeError, match="max_bytes is '1GB'; it must be a whole number"):
        gk.norms(P, THETA, X, Y, max_bytes="1GB")


@pytest.mark.parametrize("like", [(THETA, X), 5])
def test_like_is_three_arrays(like):
    with pytest.raises(TypeError, match=r"pass \(theta, x, y\)"):
        gk.fastest(P, "gradient", like=like)


def test_fastest_takes_the_device_as_torch_names_it():
    assert gk.fastest(P, "gradient", n=3, device=torch.device("cpu")).request.case.device == "cpu"
    with pytest.raises(TypeError, match="pass a Problem"):
        gk.fastest("linear", "gradient", n=3)


def test_import_the_winner_is_the_same_function():
    assert per_sample is gk.per_sample


def test_a_bound_kernel_is_found_once_per_problem_shape_and_dtype(monkeypatch):
    from sys import modules

    import gradkernels.fastest  # noqa: F401

    gk.gradient(P, THETA, X, Y)
    monkeypatch.setattr(modules["gradkernels.dispatch.bind"], "choose", lambda request: pytest.fail("chosen again"))
    gk.gradient(gk.LinearRegression(), THETA + 1, X, Y)


def test_float64_in_jax_without_x64_is_a_reason_not_a_silent_float32():
    import jax

    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="x64"):
            gk.gradient(P, THETA, X, Y, kernel="jax.vmap")
    finally:
        jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("way", ["torch.loop", "torch.vmap", "torch.autograd"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_torch_records_none(way, mode):
    outside = tuple(map(torch.from_numpy, (THETA, X, Y)))
    with mode():
        inside = tuple(tensor.clone() for tensor in outside)
        for tensors in (outside, inside):
            got = gk.gradient(P, *tensors, kernel=way)
            np.testing.assert_allclose(got.numpy(), ROWS.mean(0))


@pytest.mark.parametrize("way", [None, "torch.closed", "torch.loop", "torch.vmap", "numba.fused"])
@pytest.mark.parametrize("quantity", ["gradient", "per_sample", "norms", "clipped_sum"])
def test_a_regression_is_computed_in_its_own_dtype_also_under_autocast(quantity, way):
    theta = torch.tensor([0.0, 1.001])  # 1.001 is 1 in bfloat16, and so would be x
    x, y = torch.tensor([1.001, 1.001]), torch.zeros(2)
    with torch.autocast("cpu"):
        found = getattr(gk, quantity)(gk.LinearRegression(), theta, x, y, kernel=way)
    # eta is 1.002001, a row (2.004002, 2.006006), of length 2.835504.
    rows = {"per_sample": [[2.004002, 2.006006]] * 2, "norms": [2.835504] * 2}
    expected = rows.get(quantity) or {"gradient": [2.004002, 2.006006], "clipped_sum": [1.413507, 1.414920]}[quantity]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
