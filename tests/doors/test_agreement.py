"""Every kernel of every regression against statsmodels row by row and scikit-learn in total, on real and drawn data."""

from functools import lru_cache

import numpy as np
import oracles
import pytest
from first_five import FIVE
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import matrix

import gradkernels as gk
from gradkernels.problems import REGRESSIONS, Weighted
from gradkernels.problems.data.datasets import load_dataset
from gradkernels.quantity import Moments
from gradkernels.tree import leaves

TOLERANCE = 1e-10
REAL = {
    "linear": "diabetes",
    "logistic": "breast_cancer",
    "poisson": "diabetes",
    "huber": "diabetes",
    "softmax": "digits",
}
OPTIONS = ({}, {"l2": 0.25, "weighted": True}, {"fit_intercept": False, "delta": 30.0})
BOUND, GROUPS = 3.0, 3


def made(family, **options):
    extra = {"classes": 10} if family == "softmax" else {}
    if family != "huber":
        options.pop("delta", None)
    return REGRESSIONS[family](**options, **extra)


PROBLEMS = [made(family, **options) for family in REAL for options in OPTIONS]


def quick(kernel):
    """What is compiled for seconds at every shape has tests of its own, in test_compiled.py."""
    return not kernel.name.startswith("compiled")


def able(problem, quantity=None):
    """Kernels that can do the problem; that the others say why not is tested below."""
    known = (one for one in gk.kernels(problem, quantity) if one.quantity.name in FIVE or not one.composed)
    kernels = filter(quick, known)
    return [kernel for kernel in kernels if not kernel.unsupported(gk.Case(problem, kernel.quantity, 1))]


def of_family(problem, kernel):
    """What has to occur: each kernel with each family, and each problem."""
    return f"{problem.family} {kernel.key}", problem.name


def pairs(problems, kernels):
    return matrix("problem,kernel", rows=[(p, k) for p in problems for k in kernels(p)], occurring=of_family)


@lru_cache
def real(problem):
    """Theta, x, target and weight, some of the weights zero."""
    data = load_dataset(REAL[problem.family])
    rng = np.random.default_rng(7)
    theta = 0.3 * rng.standard_normal(problem.shape(data.features))
    if problem.family == "poisson" and problem.fit_intercept:
        theta[0] = 5.0  # rates as large as the counts
    target = data.y.astype(np.int64) if problem.integer_target else data.y
    weight = rng.integers(0, 3, data.size).astype(float) if problem.weighted else None
    return theta, data.x, target, weight


@lru_cache
def real_rows(problem):
    return oracles.rows(problem, *real(problem))


@lru_cache(maxsize=512)
def built(kernel, problem):
    return kernel.build(problem)


def compute(kernel, problem, theta, x, target, weight):
    y = target if weight is None else Weighted(target, weight)
    options = {name: kernel.backend.put(one, "cpu") for name, one in arrays_for(kernel.quantity.name, theta, x).items()}
    options |= {"clipped_sum": {"max_norm": BOUND}, "group_sums": {"count": GROUPS}}.get(kernel.quantity.name, {})
    with np.errstate(all="ignore"):  # infinite and undefined numbers are compared here, not warned about
        result = kernel.backend.wait(built(kernel, problem)(*kernel.backend.put((theta, x, y)), **options))
    return [kernel.backend.get(leaf) for leaf in leaves(result)]


def arrays_for(quantity, theta, x):
    """Arrays that a quantity takes besides: two weightings, two directions, or groups."""
    if quantity == "weighted_sum":
        return {"weights": np.cos(np.arange(2.0 * len(x))).reshape(-1, 2)}
    if quantity == "group_sums":
        return {"groups": np.arange(len(x)) % GROUPS}
    return {"v": np.cos(np.arange(2.0 * theta.size)).reshape(2, *theta.shape)} if quantity == "inner" else {}


def sizes(problem, rows, x, target, weight):
    """Size of the terms of each row before a target and its prediction cancel."""
    edge = np.ones(len(x)) if problem.integer_target else np.abs(target)
    edge = edge if weight is None else edge * weight
    outer = (edge[:, None] * np.abs(oracles.design(problem, x))).reshape(len(x), -1, *[1] * len(problem.outputs))
    return np.abs(rows) + outer


def grouped(rows):
    """Sums by the groups of `arrays_for`."""
    sums = np.zeros((GROUPS, *rows.shape[1:]))
    np.add.at(sums, arrays_for("group_sums", rows[0], rows)["groups"], rows)
    return sums


def defined(quantity, rows, size):
    """The quantity's arrays, each with the scale of its error, in plain numpy."""
    flat, flat_size = rows.reshape(len(rows), -1), size.reshape(len(rows), -1)
    norms = np.sqrt((flat**2).sum(1))
    weights = arrays_for("weighted_sum", rows[0], rows).get("weights")
    v = arrays_for("inner", rows[0], rows)["v"].reshape(2, -1)
    factor = np.minimum(1, BOUND / np.where(norms == 0, 1, norms))
    return {
        "gradient": [(rows.mean(0), size.mean(0))],
        "per_sample": [(rows, size)],
        "norms": [(norms, np.sqrt((size.reshape(flat.shape) ** 2).sum(1)))],
        "moments": [(rows.mean(0), size.mean(0)), (rows.var(0), (size**2).mean(0))],
        "clipped_sum": [((factor * rows.T).T.sum(0), size.sum(0))],
        "weighted_sum": [
            ((weights.T @ flat).reshape(2, *rows.shape[1:]), (abs(weights.T) @ flat_size).reshape(2, *rows.shape[1:]))
        ],
        "inner": [(flat @ v.T, flat_size @ abs(v.T))],
        "gram": [(flat @ flat.T, flat_size @ flat_size.T)],
        "group_sums": [(grouped(rows), grouped(size))],
        "outer": [(flat.T @ flat, flat_size.T @ flat_size)],
    }[quantity]


def close(got, want, scale):
    assert got.dtype == np.float64
    assert got.shape == want.shape
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite)
    assert (np.abs(got - want)[finite] <= TOLERANCE * scale[finite]).all()


def each_once(problem):
    """Composed kernels, which are the definitions of the rows, at the fullest settings only."""
    return [kernel for kernel in able(problem) if problem.weighted or not kernel.composed]


@pairs(PROBLEMS, each_once)
def test_real_data_row_by_row_as_statsmodels(problem, kernel):
    inputs, rows = real(problem), real_rows(problem)
    expected = defined(kernel.quantity.name, rows, sizes(problem, rows, *inputs[1:]))
    for got, (want, scale) in zip(compute(kernel, problem, *inputs), expected, strict=True):
        close(got, want, scale)


@pairs(PROBLEMS, lambda problem: able(problem, "gradient"))
def test_real_data_in_total_as_scikit_learn(problem, kernel):
    inputs = real(problem)
    (got,) = compute(kernel, problem, *inputs)
    want = oracles.total(problem, *inputs)
    close(got, want, sizes(problem, real_rows(problem), *inputs[1:]).mean(0))


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "with gaps": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
}


def frozen(array):
    array.flags.writeable = False
    return array


def targets(family, n):
    """Ordinary ones and those at the edges of what the loss is defined for."""
    edges = {
        "logistic": st.sampled_from([0.0, 1.0, 0.5]),
        "poisson": st.sampled_from([0.0, 1.0, 7.0]),
        "softmax": st.sampled_from([0, 1, 2]),
    }
    values = st.lists(edges.get(family, st.integers(-4, 4).map(float)), min_size=n, max_size=n)
    return values.map(lambda y: np.array(y, np.int64 if family == "softmax" else float))


@st.composite
def drawn(draw, problem):
    """Small whole numbers and eighths, whose predictors are exact, or |eta| in thousands; two shapes for JAX' sake."""
    n = draw(st.sampled_from([1, 5]))
    huge = draw(st.booleans())
    size = int(np.prod(problem.shape(2)))
    theta = draw(st.lists(st.integers(-1, 1) if huge else st.integers(-8, 8), min_size=size, max_size=size))
    theta = np.array(theta, float).reshape(problem.shape(2)) * (1000 if huge else 1 / 8)
    x = np.array(draw(st.lists(st.integers(-3, 3), min_size=2 * n, max_size=2 * n)), float).reshape(n, 2)
    if draw(st.booleans()):
        x[:] = x[0]  # constant features
    layout = draw(st.sampled_from(list(LAYOUTS)))
    weight = draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0]), min_size=n, max_size=n))
    arrays = theta, LAYOUTS[layout](x), draw(targets(problem.family, n)), np.array(weight)
    return tuple(map(frozen, arrays)) if draw(st.booleans()) else arrays


DRAWN = [REGRESSIONS[family](l2=0.25, weighted=True) for family in REAL]


@pytest.mark.parametrize("problem", DRAWN, ids=lambda problem: problem.name)
@settings(max_examples=40)
@given(data=st.data())
def test_drawn_data_as_statsmodels_and_scikit_learn(problem, data):
    theta, x, target, weight = inputs = data.draw(drawn(problem))
    with np.errstate(all="ignore"):
        rows, total = oracles.rows(problem, *inputs), oracles.total(problem, *inputs)
        size = sizes(problem, rows, x, target, weight)
        if not weight.any():
            total = oracles.penalty(problem, theta)  # scikit-learn divides by the sum of the weights
        if problem.family == "poisson" and not np.isfinite(rows).all():
            total = np.full_like(theta, np.nan)
        for kernel in able(problem):
            # Composed ones are the definitions of these rows, on real data above; statsmodels has a test below.
            if kernel.composed or (kernel.backend.name == "statsmodels" and np.abs(theta).max() > 1):
                continue
            expected = defined(kernel.quantity.name, rows, size)
            if kernel.quantity.name == "gradient":
                expected.append((total, size.mean(0)))
            for got, (want, scale) in zip(2 * compute(kernel, problem, *inputs), expected, strict=False):
                close(got, want, scale)


def test_statsmodels_refuses_rates_that_it_would_take_for_others():
    kernel, problem = gk.kernel("statsmodels.score_obs.per_sample"), gk.PoissonRegression()
    theta, y = np.array([0.0, 1.0]), np.array([2.0, 3.0])
    (rows,) = compute(kernel, problem, theta, np.array([350.0, -36.0]), y, None)
    # e^350 = 1.00709089e152 and e^-36 = 2.3195e-16
    np.testing.assert_allclose(rows, [[1.00709089e152, 350 * 1.00709089e152], [-3, 108]], rtol=1e-7)
    says = r"here e\^-36.5, and its rows would be wrong; use another kernel$"
    with pytest.raises(ValueError, match=rf"^statsmodels takes rates below 2.2e-16 for 2.2e-16, {says}"):
        compute(kernel, problem, theta, np.array([350.0, -36.5]), y, None)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_statsmodels_holds_for_logistic_regression_far_out(target):
    x = np.array([-1000.0, -40.0, 40.0, 1000.0])
    inputs = np.array([0.0, 1.0]), x, np.full(4, target), None
    (rows,) = compute(gk.kernel("statsmodels.score_obs.per_sample"), gk.LogisticRegression(), *inputs)
    slopes = np.array([0, 0, 1, 1]) - target
    np.testing.assert_allclose(rows, np.stack([slopes, slopes * x], 1), atol=1e-14)


@pytest.mark.parametrize(
    "kernel",
    [kernel for kernel in able(gk.PoissonRegression(), "per_sample") if kernel.backend.name != "statsmodels"],
    ids=lambda kernel: kernel.key,
)
def test_a_rate_that_overflows_is_infinite_in_exactly_its_row(kernel):
    theta, x, y = np.array([0.0, 1.0]), np.array([1000.0, 709.0, -1000.0, 710.0]), np.array([2.0, 0.0, 3.0, 1.0])
    (rows,) = compute(kernel, gk.PoissonRegression(), theta, x, y, None)
    e709 = 8.218407461554972e307  # e^709; e^710 is beyond the largest double, 1.797e308
    np.testing.assert_allclose(rows[1, 0], e709, rtol=1e-12)
    assert rows[[0, 3]].tolist() == [[np.inf, np.inf]] * 2
    assert rows[2].tolist() == [-3.0, 3000.0]


BAD = {
    "x": lambda x, target, weight, bad: x.__setitem__((4, 1), bad),
    "target": lambda x, target, weight, bad: target.__setitem__(4, bad),
    "weight": lambda x, target, weight, bad: weight.__setitem__(4, bad),
}


@pairs(DRAWN, lambda problem: able(problem, "per_sample") + [k for k in able(problem, "norms") if not k.composed])
def test_nan_stays_in_exactly_its_own_sample(problem, kernel):
    theta, x, y = problem.draw(9, seed=0, features=2)
    clean = compute(kernel, problem, theta, x, *y)[0]
    for place in BAD if not problem.integer_target else ("x", "weight"):
        dirty = [array.copy() for array in (x, *y)]
        BAD[place](*dirty, np.nan)
        got = compute(kernel, problem, theta, *dirty)[0]
        assert np.isnan(got[4]).all(), place
        np.testing.assert_array_equal(np.delete(got, 4, 0), np.delete(clean, 4, 0), err_msg=place)


@pairs([gk.LinearRegression(weighted=True), gk.PoissonRegression(weighted=True)], lambda p: able(p, "per_sample"))
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinity_stays_in_exactly_its_own_sample(problem, kernel, bad):
    theta, x, y = problem.draw(9, seed=0, features=2)
    clean = compute(kernel, problem, theta, x, *y)[0]
    for place in BAD:
        dirty = [array.copy() for array in (x, *y)]
        BAD[place](*dirty, bad)
        got = compute(kernel, problem, theta, *dirty)[0]
        assert not np.isfinite(got[4]).all(), place
        np.testing.assert_array_equal(np.delete(got, 4, 0), np.delete(clean, 4, 0), err_msg=place)


@pytest.mark.parametrize("name", ["theta", "x", "y.target", "y.sample_weight"])
def test_foreign_byte_order_is_refused_with_what_to_do(name):
    problem = gk.LogisticRegression(weighted=True)
    theta, x, (target, weight) = problem.draw(5, seed=0, features=2)
    arrays = {"theta": theta, "x": x, "y.target": target, "y.sample_weight": weight}
    arrays[name] = arrays[name].astype(">f8")
    with pytest.raises(TypeError) as caught:
        gk.per_sample(problem, arrays["theta"], arrays["x"], Weighted(arrays["y.target"], arrays["y.sample_weight"]))
    assert str(caught.value) == f"{name} is in foreign byte order (>f8); use {name}.astype('float64')"


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("problem", [made(family, l2=0.25) for family in REAL], ids=lambda problem: problem.name)
def test_the_public_functions_take_weights_as_a_keyword(problem, library):
    from gradkernels.backend import BACKENDS

    backend = BACKENDS[library]
    theta, x, target, _ = real(problem)
    weight = np.random.default_rng(8).integers(0, 3, len(x)).astype(float)
    inputs = theta, x, target, weight
    rows = oracles.rows(problem, *inputs)
    size = sizes(problem, rows, x, target, weight)
    *arrays, there = backend.put(inputs)
    for name in FIVE:
        options = {"max_norm": BOUND} if name == "clipped_sum" else {}
        result = getattr(gk, name)(problem, *arrays, sample_weight=there, **options)
        assert isinstance(result, Moments) == (name == "moments")
        for leaf, (want, scale) in zip(leaves(result), defined(name, rows, size), strict=True):
            close(backend.get(leaf), want, scale)


@pytest.mark.parametrize(
    ("key", "problem", "dtype", "says"),
    [
        ("statsmodels.score_obs.per_sample", gk.HuberRegression(), "float64",
         "statsmodels has no GLM family for HuberRegression; it has those of LinearRegression, LogisticRegression, "
         "PoissonRegression"),
        ("statsmodels.score_obs+.norms", gk.SoftmaxRegression(), "float64",
         "statsmodels has no GLM family for SoftmaxRegression; it has those of LinearRegression, LogisticRegression, "
         "PoissonRegression"),
        ("statsmodels.score_obs.per_sample", gk.LinearRegression(), "float32",
         "statsmodels computes in float64 only, not in float32"),
    ],
)  # fmt: skip
def test_what_a_peer_cannot_do_is_a_reason(key, problem, dtype, says):
    kernel = gk.kernel(key)
    assert kernel.unsupported(gk.Case(problem, kernel.quantity, 5, dtype)) == (says,)


def test_a_peer_that_moved_its_private_module_is_a_reason(monkeypatch):
    kernel = gk.kernel("sklearn.loss.gradient")
    module = kernel.builder.__globals__
    monkeypatch.setitem(module, "PRIVATE", ("_loss.loss", "linear_model._moved", "gone._moved"))
    module["_missing"].cache_clear()
    says = "this version of scikit-learn has no sklearn.linear_model._moved and no sklearn.gone._moved; "
    try:
        assert kernel.unsupported(gk.Case(gk.LinearRegression(), "gradient", 5)) == (says + "install 1.5 to 1.9",)
    finally:
        module["_missing"].cache_clear()


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_huber_of_scikit_learn_hides_no_nan(place, dtype):
    pytest.importorskip("sklearn")
    case = gk.Case(gk.HuberRegression(), "gradient", 5, dtype, features=2)
    kernel = gk.kernel("sklearn.loss.gradient")
    if kernel.unsupported(case):
        pytest.skip(kernel.unsupported(case)[0])
    compute, data = kernel.build(case.problem), case.draw()
    assert np.isfinite(compute(*data)).all()
    data[place].reshape(-1)[-1] = np.nan
    found = compute(*data)
    assert found.dtype == dtype
    assert np.isnan(found).all()
