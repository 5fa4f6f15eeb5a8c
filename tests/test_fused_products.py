"""`numba.fused` with weights, directions and groups: in one pass, whatever the memory layout, dtype and threads."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.problems import Weighted

numba = pytest.importorskip("numba")

LINEAR = gk.LinearRegression()
PROBLEMS = (
    LINEAR,
    gk.LinearRegression(fit_intercept=False, l2=0.5),
    gk.LogisticRegression(weighted=True, l2=0.3),
    gk.PoissonRegression(fit_intercept=False),
    gk.HuberRegression(delta=0.7),
    gk.SoftmaxRegression(classes=3),
    gk.SoftmaxRegression(classes=5, l2=0.2, weighted=True, fit_intercept=False),
)
NAMES = ("weighted_sum", "inner", "outer", "group_sums")
SHAPES = ((1, "C", 300), (3, "C", 7), (3, "F", 129), (14, "C", 1000), (30, "F", 257), (64, "C", 40), (1, "C", 1))


@pytest.mark.parametrize(
    ("problem", "name", "dtype", "shape"),
    [
        (problem, name, dtype, SHAPES[(i * 3 + j) % len(SHAPES)])
        for i, (problem, name) in enumerate(product(PROBLEMS, NAMES))
        for j, dtype in enumerate(("float64", "float32"))
    ],
    ids=str,
)
def test_agrees_with_the_reference(problem, name, dtype, shape):
    features, layout, n = shape
    gk.check(f"numba.fused.{name}", gk.Case(problem, name, n, dtype, layout=layout, features=features))


def options_of(name, n, width, rng):
    return {
        "weighted_sum": [{"weights": rng.standard_normal(n)}, {"weights": rng.standard_normal((n, 4))}],
        "inner": [{"v": rng.standard_normal(width)}, {"v": rng.standard_normal((4, *width))}],
        "outer": [{}, {"groups": rng.integers(0, 50, n)}],
        "group_sums": [{"groups": rng.integers(0, 50, n), "count": 51}],
    }[name]


@pytest.fixture(scope="module")
def large():
    """Samples that are cut into chunks."""
    return gk.Case(LINEAR, "gradient", 40_000, features=14).draw()


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_joined_alike_whatever_the_threads(name, large):
    theta, x, y = large
    compute, rows = (gk.kernel(key).build(LINEAR) for key in (f"numba.fused.{name}", "numpy.broadcast.per_sample"))
    before = numba.get_num_threads()
    for options in options_of(name, len(x), theta.shape, np.random.default_rng(0)):
        found = []
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(compute(theta, x, y, **options))
        numba.set_num_threads(before)
        np.testing.assert_array_equal(*found)
        want = gk.kernel(f"numpy.broadcast+.{name}").quantity.of(np, rows(theta, x, y), **options)
        np.testing.assert_allclose(found[0], want, rtol=1e-9, atol=1e-9 * abs(want).max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("problem", [LINEAR, gk.SoftmaxRegression(weighted=True, l2=0.1)], ids=lambda p: p.name)
def test_takes_memory_as_it_comes(name, problem):
    theta, x, y = gk.Case(problem, "gradient", 90, features=5).draw()
    target, weight = y if problem.weighted else (y, None)
    compute = gk.kernel(f"numba.fused.{name}").build(problem)
    for options in options_of(name, 90, theta.shape, np.random.default_rng(1)):
        want = compute(theta, x, y, **options)
        for place in (backwards, transposed, spread, packed):
            data = Weighted(place(target), place(weight)) if problem.weighted else place(target)
            taken = {key: place(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
            got = compute(place(theta), place(x), data, **taken)
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * abs(want).max())


def backwards(array):
    return array[..., ::-1].copy()[..., ::-1]


def transposed(array):
    return array.T.copy().T


def spread(array):
    wide = np.repeat(array, 3, axis=0)
    wide.flags.writeable = False
    return wide[::3]


def packed(array):
    """A column of a structure with an odd number of bytes."""
    memory = np.zeros(array.shape, np.dtype([("flag", np.uint8), ("value", array.dtype)]))
    memory["value"] = array
    return memory["value"]


@pytest.mark.parametrize("name", ["weighted_sum", "outer", "group_sums"])
def test_no_row_is_kept(name):
    n = 400_000
    theta, x, y = gk.Case(LINEAR, "gradient", n, features=12).draw()
    compute = gk.kernel(f"numba.fused.{name}").build(LINEAR)
    for options in options_of(name, n, theta.shape, np.random.default_rng(2)):
        compute(theta, x, y, **options)
        found = peak_bytes(lambda options=options: compute(theta, x, y, **options))
        if found is None:
            pytest.skip("the system does not tell a process its peak memory")
        assert found < 2**20  # the rows would be 42 of these


def test_what_is_not_finite_stays_where_it_belongs():
    theta, x, y = gk.Case(LINEAR, "gradient", 300, features=6).draw()
    x[140] = np.nan
    groups = np.arange(300) % 7
    sums = gk.kernel("numba.fused.group_sums").build(LINEAR)(theta, x, y, groups=groups, count=7)
    assert np.isnan(sums).any(1).tolist() == [group == 140 % 7 for group in range(7)]
    along = gk.kernel("numba.fused.inner").build(LINEAR)(theta, x, y, v=np.ones((2, 7)))
    assert np.isnan(along).all(1).nonzero()[0].tolist() == [140]
    assert np.isfinite(np.delete(along, 140, 0)).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_samples_no_weightings_and_no_directions(name):
    theta, x, y = gk.Case(gk.SoftmaxRegression(), "gradient", 3, features=2).draw()
    compute = gk.kernel(f"numba.fused.{name}").build(gk.SoftmaxRegression())
    for options in options_of(name, 0, theta.shape, np.random.default_rng(3)):
        found = compute(theta, x[:0], y[:0], **options)
        assert not found.any()
        assert found.shape == gk.kernel(f"numba.fused.{name}").quantity.blank(0, theta, options).shape
    if name in ("weighted_sum", "inner"):
        none = {"weighted_sum": {"weights": np.zeros((3, 0))}, "inner": {"v": np.zeros((0, *theta.shape))}}[name]
        assert compute(theta, x, y, **none).shape == {"weighted_sum": (0, *theta.shape), "inner": (3, 0)}[name]


def one_weight_moved(given):
    weights = given["weights"].copy()
    weights[[0, 1]] = weights[[1, 0]]
    return given | {"weights": weights}


MUTANTS = {
    "one triangle alone": ("outer", lambda given: given, np.triu),
    "classes swapped": ("outer", lambda given: given, lambda found: np.roll(found, 1, 1)),
    "a weight moved to another sample": ("weighted_sum", one_weight_moved, lambda found: found),
    "a sample in another's group": ("group_sums", lambda given: given | {"groups": given["groups"][::-1].copy()},
                                    lambda found: found),
    "the intercept left out": ("inner", lambda given: {"v": given["v"] * np.r_[0.0, np.ones(2)][:, None]},
                               lambda found: found),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_rejected(mutant):
    name, before, after = MUTANTS[mutant]
    honest, problem = gk.kernel(f"numba.fused.{name}"), gk.SoftmaxRegression()

    def build(problem, **options):
        compute = honest.build(problem)
        return lambda *arrays, **given: after(compute(*arrays, **before(given)))

    with pytest.raises(gk.Disagreement):
        gk.check(replace(honest, builder=build), gk.Case(problem, name, 7, features=2))


def test_group_numbers_that_are_not_all_there():
    """Marked where they are low, sorted where they are not."""
    theta, x, y = gk.Case(LINEAR, "gradient", 6, features=2).draw()
    rows = gk.per_sample(LINEAR, theta, x, y)
    sums = np.stack([rows[:2].sum(0), rows[2:5].sum(0), rows[5]])
    for groups in ([3, 3, 0, 0, 0, 9], [7 * 10**12, 7 * 10**12, 5, 5, 5, 2**62]):
        found = gk.outer(LINEAR, theta, x, y, groups=groups, kernel="numba.fused")
        np.testing.assert_allclose(found, sums.T @ sums, rtol=1e-12)
