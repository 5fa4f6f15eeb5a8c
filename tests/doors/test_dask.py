"""Regressions on dask arrays: lazy, block by block, merged soundly, and a bad block is called by its number."""

import re

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.quantity import Moments
from gradkernels.scale.lazy_results import FAN_INS
from gradkernels.scale.task_groups import group_tasks, leave_tasks_alone

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

ROWS = (5, 17, 0, 20, 1, 17)
N = sum(ROWS)
P = gk.LogisticRegression(l2=0.1)
THETA, X, Y = P.draw(N, seed=0, features=3)
RNG = np.random.default_rng(1)
WEIGHTS, GROUPS = RNG.random((N, 2)), RNG.integers(0, 9, N)
DX, DY = da.from_array(X, chunks=(ROWS, 3)), da.from_array(Y, chunks=(ROWS,))

ASKED = {
    "gradient": (gk.gradient, {}),
    "moments": (gk.moments, {}),
    "clipped_sum": (gk.clipped_sum, {"max_norm": 0.7}),
    "weighted_sum": (gk.weighted_sum, {"weights": WEIGHTS[:, 0]}),
    "two weighted sums": (gk.weighted_sum, {"weights": WEIGHTS}),
    "few groups": (gk.group_sums, {"groups": GROUPS, "count": 9}),
    "more groups than rows": (gk.group_sums, {"groups": 7 * GROUPS, "count": 100}),
    "outer": (gk.outer, {}),
    "outer of groups": (gk.outer, {"groups": GROUPS}),
    "per_sample": (gk.per_sample, {}),
    "flat": (gk.per_sample, {"flat": True}),
    "norms": (gk.norms, {}),
    "norms by": (gk.norms, {"by": "parameter"}),
    "inner": (gk.inner, {"v": [3.0, 1.0, -1.0, 2.0]}),
    "five directions": (gk.inner, {"v": RNG.standard_normal((5, 4))}),
    "project": (gk.project, {"size": 6}),
    "cut by another rule": (gk.clipped_sum, {"rule": "automatic", "max_norm": 0.5}),
    "cut, with norms": (gk.clipped_sum, {"norms_out": True, "max_norm": 0.5}),
    "cut by group": (gk.clipped_sum, {"norms_out": True, "by": {"all": "theta"}, "max_norm": {"all": 0.5}}),
    "cut by a function": (gk.clipped_sum, {"norms_out": True, "rule": lambda norms: np.median(norms) / norms}),
    "cut by a function by group": (gk.clipped_sum, {"norms_out": True, "rule": np.reciprocal, "by": "parameter"}),
    "cut with a look": (gk.clipped_sum, {"norms_out": True, "nonfinite": "raise"}),
    "gram": (gk.gram, {}),
    "gram with others": (gk.gram, {"other": (X[:7], Y[:7])}),
}


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def parts(result):
    """The arrays of a result, by name."""
    if isinstance(result, Moments):
        return result._asdict()
    if isinstance(result, tuple):
        total, norms = result
        return {"sum": total, **(norms if isinstance(norms, dict) else {"norms": norms})}
    return result if isinstance(result, dict) else {"": result}


def assert_same(lazy, eager, rtol=1e-12):
    lazy, eager = parts(lazy), parts(eager)
    assert lazy.keys() == eager.keys()
    for name, array in lazy.items():
        assert isinstance(array, da.Array)
        computed = array.compute()
        assert (array.shape, array.dtype) == (computed.shape, computed.dtype) == (eager[name].shape, eager[name].dtype)
        np.testing.assert_allclose(computed, eager[name], rtol, rtol * abs(eager[name]).max())


@pytest.mark.parametrize("asked", ASKED)
def test_each_quantity_is_lazy_and_what_it_is_in_memory(asked):
    function, options = ASKED[asked]
    assert_same(function(P, THETA, DX, DY, **options), function(P, THETA, X, Y, **options))


@pytest.mark.parametrize("asked", ["weighted_sum", "two weighted sums", "more groups than rows", "outer of groups"])
def test_options_by_sample_may_be_dask_arrays_in_blocks_of_their_own(asked):
    function, options = ASKED[asked]
    lazy = {
        name: da.from_array(value, chunks=13) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    assert_same(function(P, THETA, DX, DY, **lazy), function(P, THETA, X, Y, **options))


def test_weights_of_samples_may_be_of_numpy_or_dask():
    expected = gk.gradient(P, THETA, X, Y, sample_weight=WEIGHTS[:, 0])
    for weights in (WEIGHTS[:, 0], da.from_array(WEIGHTS[:, 0], chunks=11)):
        assert_same(gk.gradient(P, THETA, DX, DY, sample_weight=weights), expected)


def test_one_feature_integer_targets_and_x_alone_in_blocks():
    theta, x, y = gk.PoissonRegression().draw(30, seed=3)
    lazy = gk.moments(gk.PoissonRegression(), theta, da.from_array(x, chunks=8), y.astype(int))
    assert_same(lazy, gk.moments(gk.PoissonRegression(), theta, x, y))


def test_theta_with_two_axes_may_be_flat():
    problem = gk.SoftmaxRegression(classes=3)
    theta, x, y = problem.draw(20, seed=0, features=2)
    y = y.astype(int)
    dx, dy = da.from_array(x, chunks=(7, 2)), da.from_array(y, chunks=7)
    for flat in (False, True):
        assert_same(gk.per_sample(problem, theta, dx, dy, flat=flat), gk.per_sample(problem, theta, x, y, flat=flat))
    assert_same(gk.outer(problem, theta, dx, dy, groups=y), gk.outer(problem, theta, x, y, groups=y))


def test_single_precision_stays_and_is_summed_in_double():
    theta, x, y = (part.astype("f4") for part in gk.LinearRegression(fit_intercept=False).draw(300, seed=0))
    lazy = gk.gradient(gk.LinearRegression(fit_intercept=False), theta, da.from_array(x, chunks=1), y)
    rows = 2 * (theta.astype("f8") * x - y) * x
    assert lazy.dtype == np.float32
    np.testing.assert_allclose(lazy.compute(), [rows.mean()], rtol=2e-7)


def test_variance_far_from_zero_is_not_lost_in_squares():
    problem, n = gk.LinearRegression(fit_intercept=False), max(FAN_INS) ** 2 + 2
    y = -5e7 - np.arange(n) % 2 / 2  # gradients 1e8 and 1e8 + 1
    mean, variance = gk.moments(problem, np.zeros(1), da.from_array(np.ones(n), chunks=1), y)
    assert mean.compute().tolist() == [100_000_000.5]
    np.testing.assert_allclose(variance.compute(), [0.25], rtol=1e-7)  # a mean of blocks is rounded to 1.5e-8


@pytest.fixture
def grouped():
    group_tasks(1)
    yield
    leave_tasks_alone()
    assert dask.config.get("array_optimize", None) is None


def tasks(*lazy):
    return len(dict(dask.optimize(*lazy)[0].__dask_graph__()))


def test_blocks_are_computed_in_the_tasks_that_merge_them_with_the_same_bits(grouped):
    x, y = da.ones((600, 3), chunks=(5, 3)), da.zeros(600, chunks=5)
    lazy = gk.gradient(P, THETA, x, y)
    groups, found = tasks(lazy), lazy.compute()
    leave_tasks_alone()
    blocks = x.numblocks[0]
    assert blocks == 120
    assert groups == 8 + 1 + 1  # 16 at a time, their result, and what all blocks are given
    assert tasks(lazy) == blocks + groups
    assert found.tobytes() == lazy.compute().tobytes()


def test_blocks_that_something_else_needs_are_tasks_of_their_own(grouped):
    x, y = da.ones((600, 3), chunks=(5, 3)), da.zeros(600, chunks=5)
    parts = x + 1
    lazy, other = gk.gradient(P, THETA, parts, y), parts.sum()
    assert tasks(lazy) < 20
    assert tasks(lazy, other) > 120
    np.testing.assert_array_equal(dask.compute(lazy, other)[0], lazy.compute())


def test_few_blocks_are_tasks_of_their_own_so_that_no_thread_waits(grouped):
    assert tasks(gk.gradient(P, THETA, DX, DY)) > len(ROWS)


def test_an_optimisation_of_the_users_own_stays():
    mine = da.optimization.optimize
    with dask.config.set(array_optimize=mine):
        group_tasks(1)
        assert dask.config.get("array_optimize") is mine
        leave_tasks_alone()
        assert dask.config.get("array_optimize") is mine


@pytest.mark.parametrize("asked", ["gradient", "moments", "clipped_sum", "outer of groups", "gram"])
def test_the_bits_are_the_same_whatever_computes_the_blocks(asked):
    function, options = ASKED[asked]
    found = set()
    for workers in (1, 2, 5):
        with dask.config.set(scheduler="threads", num_workers=workers):
            result = dask.compute(function(P, THETA, DX, DY, **options))[0]
        found.add(b"".join(part.tobytes() for part in parts(result).values()))
    result = dask.compute(function(P, THETA, DX, DY, **options))[0]
    found.add(b"".join(part.tobytes() for part in parts(result).values()))
    assert len(found) == 1


def test_the_kernel_is_chosen_once_for_all_blocks(monkeypatch):
    from gradkernels.dispatch import bound_kernels

    asked, bound = [], bound_kernels.bound_kernel
    monkeypatch.setattr(
        bound_kernels, "bound_kernel", lambda *given: asked.append((given[0], given[3][0].way)) or bound(*given)
    )
    lazy = bound_kernels._in_blocks("gradient", P, ("numpy.broadcast", None, None))(THETA, DX, DY)
    assert asked == []
    lazy.compute()
    assert asked == [("gradient", "numpy.broadcast+")] * 5


def test_x_and_y_are_made_in_the_task_that_computes():
    x = da.ones((40, 3), chunks=(10, 3))
    lazy = gk.gradient(P, THETA, x, da.zeros(40, chunks=10))
    graph = lazy.__dask_optimize__(lazy.dask, lazy.__dask_keys__())
    assert len(dict(graph)) == 4 + 1 + 1  # blocks, constants and what merges them


def test_theta_may_be_lazy_so_that_steps_are_one_graph():
    theta = eager = THETA
    theta = da.from_array(theta, chunks=2)
    for _ in range(3):
        theta = theta - 0.5 * gk.gradient(P, theta, DX, DY)
        eager = eager - 0.5 * gk.gradient(P, eager, X, Y)
    assert_same(theta, eager)


def test_the_same_call_has_the_same_name_and_another_theta_another_one():
    one, again = gk.gradient(P, THETA, DX, DY), gk.gradient(P, THETA.copy(), DX, DY)
    assert one.name == again.name
    assert one.name != gk.gradient(P, THETA + 1, DX, DY).name
    assert one.name != gk.gradient(gk.LogisticRegression(), THETA, DX, DY).name
    assert gk.clipped_sum(P, THETA, DX, DY).name != gk.clipped_sum(P, THETA, DX, DY, max_norm=2).name


def test_what_is_written_to_theta_later_changes_nothing():
    theta, weights = THETA.copy(), WEIGHTS[:, 0].copy()
    lazy = gk.weighted_sum(P, theta, DX, DY, weights)
    theta[:] = weights[:] = np.nan
    assert_same(lazy, gk.weighted_sum(P, THETA, X, Y, WEIGHTS[:, 0]))


def test_no_rows_have_sums_of_zero_and_no_mean():
    x, y = DX[:0], DY[:0]
    assert gk.clipped_sum(P, THETA, x, y).compute().tolist() == [0] * 4
    assert gk.norms(P, THETA, x, y).compute().shape == (0,)
    with pytest.raises(ValueError, match=r"^x has n = 0 samples; moments divides by n and needs at least 1$"):
        gk.moments(P, THETA, x, y)


def test_a_minimiser_of_scipy_takes_it():
    optimize = pytest.importorskip("scipy.optimize")
    problem = gk.LinearRegression()
    _, x, y = problem.draw(60, seed=2, features=2)
    dx, dy = da.from_array(x, chunks=(25, 2)), da.from_array(y, chunks=25)
    design = np.column_stack([np.ones(60), x])

    def loss_and_gradient(theta):
        loss = ((dx @ theta[1:] + theta[0] - dy) ** 2).mean()
        return dask.compute(loss, gk.gradient(problem, theta, dx, dy))

    found = optimize.minimize(loss_and_gradient, np.zeros(3), jac=True, method="L-BFGS-B", options={"ftol": 1e-14})
    np.testing.assert_allclose(found.x, np.linalg.lstsq(design, y)[0], atol=1e-5)


BAD = [
    (lambda: (DX[DX[:, 0] > 0], DY), "block 0 and 5 others of x has an unknown number of rows; call "
     "x.compute_chunk_sizes(), or read files with gk.open"),
    (lambda: (DX.rechunk((ROWS, (2, 1))), DY), "block 0 of x has 2 of its 3 columns; a block must have whole rows: "
     "x.rechunk({1: -1})"),
    (lambda: (DX, DY[:-1]), "theta (4,), x (60, 3), y (59,): x must be (n, d), or (n,) for one feature, and y (n,) "
     "with the same n"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "says"), BAD)
def test_bad_blocks_are_refused_at_once(bad, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        gk.gradient(P, THETA, *bad())


def changed(array, change):
    """An array of which block 3 is what `change` makes of it, behind dask's back."""

    def one(block, block_info=None):
        return change(block.copy()) if block_info[0]["chunk-location"][0] == 3 else block

    return array.map_blocks(one, dtype=array.dtype, meta=array._meta)


def with_entry(value):
    def change(block):
        block[2] = value
        return block

    return change


LATE = [
    (lambda: (changed(DX, with_entry(np.nan)), DY), ValueError,
     "block 3 (samples 22 to 41): x is NaN in sample 24; leave such samples out, or fill them"),
    (lambda: (DX, changed(DY, with_entry(np.nan))), ValueError,
     "block 3 (samples 22 to 41): y is NaN in sample 24; leave such samples out, or fill them"),
    (lambda: (changed(DX, lambda block: block.astype("f4")), DY), TypeError,
     "block 3 (samples 22 to 41): x is float32 there and float64 as a whole; use one dtype with x.astype"),
    (lambda: (changed(DX, lambda block: block[1:]), DY), ValueError,
     "block 3 (samples 22 to 41): x has 19 rows there, announced were 20; call x.compute_chunk_sizes() first"),
    (lambda: (changed(DX, np.ma.asarray), DY), TypeError,
     "block 3 (samples 22 to 41): x is a MaskedArray there; a block must be a plain numpy array"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "error", "says"), LATE)
@pytest.mark.parametrize("function", [gk.gradient, gk.norms])
def test_bad_blocks_are_named_when_they_come(function, bad, error, says):
    with pytest.raises(error, match=f"^{re.escape(says)}$"):
        function(P, THETA, *bad()).compute()


def test_targets_without_a_loss_and_groups_beyond_the_count_are_of_a_block():
    y = changed(DY, with_entry(7))
    with pytest.raises(ValueError, match=r"^block 3 \(samples 22 to 41\): y\[2\] is 7.0; for logistic"):
        gk.gradient(P, THETA, DX, y).compute()
    groups = da.from_array(GROUPS, chunks=(ROWS,))
    with pytest.raises(ValueError, match=r"^block \d+ .*: groups holds \d, count is 2; count must be above"):
        gk.group_sums(P, THETA, DX, DY, groups, 2).compute()


REFUSED = [
    (lambda: gk.norms(P, THETA, DX, DY, out=np.empty(N)), TypeError, "out= was given, and results of dask arrays are "),
    (lambda: gk.gradient(P, THETA, DX.astype("f4"), DY), TypeError, "mixed dtype: theta float64, x float32, y float64"),
    (lambda: gk.gradient(P, THETA, DX.to_delayed()[0, 0], DY), TypeError, "x is dask's Delayed; pass an array"),
    (lambda: gk.gradient(P, THETA, DX.map_blocks(np.ma.asarray), DY), TypeError, "blocks of x are of numpy.ma"),
    (lambda: gk.weighted_sum(P, THETA, DX, DY, DX[1:]), ValueError, "weights is (59, 3); its first axis must have "),
    (lambda: gk.group_sums(P, THETA, DX, DY, GROUPS, 3), ValueError, "groups holds 8, count is 3"),
    (lambda: gk.clipped_sum(P, THETA, DX, DY, rule=np.sqrt, nonfinite="drop"), ValueError, "nonfinite='drop' of dask "),
    (lambda: gk.clipped_sum(P, THETA, DX, DY, rule=np.sqrt, max_norm=-1), ValueError, "max_norm is -1; it must be pos"),
    (lambda: gk.clipped_sum(P, THETA, DX, DY, nonfinite="skip"), ValueError, "there is no setting of nonfinite 'skip'"),
    (lambda: gk.clipped_sum(P, THETA, DX, DY, max_norm=-1), ValueError, "max_norm is -1; it must be positive"),
    (lambda: gk.gradient(P, THETA, DX, DY, kernel="numpy.loops"), ValueError, "there is no kernel for gradient"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "says"), REFUSED)
def test_what_cannot_be_is_said_before_anything_is_computed(call, error, says):
    with pytest.raises(error, match=f"^{re.escape(says)}"):
        call()


ODD = X.copy()
ODD[[3, 8, 20, 41, 50, 57, 59]] = np.inf
SAYS = "of 7 of 60 samples, number 3, 8, 20, 41, 50, ..."


def cut(x, **options):
    return gk.clipped_sum(P, THETA, da.from_array(x, chunks=(ROWS, 3)), DY, 0.5, **options)


def test_samples_whose_gradients_are_not_finite_are_left_out_and_told_where_the_sum_is_computed():
    total, norms = cut(ODD, nonfinite="drop", norms_out=True)
    with pytest.warns(gk.NonFiniteWarning, match=f"^gradients are not finite and were left out of the sum: {SAYS}$"):
        found = total.compute()
    kept = np.isfinite(norms.compute())
    assert np.flatnonzero(~kept).tolist() == [3, 8, 20, 41, 50, 57, 59]
    np.testing.assert_allclose(found, gk.clipped_sum(P, THETA, X[kept], Y[kept], 0.5), 1e-12)


def test_a_block_with_nan_loses_its_sample_alone():
    gap = X.copy()
    gap[30, 1] = np.nan
    with pytest.warns(gk.NonFiniteWarning, match="of 1 of 60 samples, number 30$"):
        found = cut(gap, nonfinite="drop").compute()
    kept = np.arange(N) != 30
    np.testing.assert_allclose(found, gk.clipped_sum(P, THETA, X[kept], Y[kept], 0.5), 1e-12)


@pytest.mark.parametrize(
    "rule", ["clip", lambda norms: np.where(np.isfinite(norms), 1.0, 0.0)], ids=["word", "function"]
)
def test_a_sum_that_is_to_raise_names_the_first_samples(rule):
    with pytest.raises(ValueError, match=f"^gradients are not finite: {SAYS}; nonfinite='drop' leaves them out$"):
        cut(ODD, nonfinite="raise", rule=rule).compute()


@pytest.mark.parametrize(
    ("rule", "says"), [(lambda norms: norms[1:], "rule returned (59,)"), (list, "rule returned a")]
)
def test_a_function_that_gives_no_weights_is_told(rule, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        cut(X, rule=rule).compute()


def test_no_samples_have_no_odd_ones():
    empty = da.zeros((0, 3), chunks=(0, 3)), da.zeros(0, chunks=0)
    for options in ({"nonfinite": "drop"}, {"rule": np.reciprocal}):
        assert gk.clipped_sum(P, THETA, *empty, **options).compute().tolist() == [0] * 4


def test_a_sum_that_nobody_knows_how_to_merge_is_refused(monkeypatch):
    from dataclasses import replace

    from gradkernels import quantity
    from gradkernels.scale.merging import merging_of

    monkeypatch.setitem(quantity.QUANTITIES, "largest", replace(quantity.QUANTITIES["gradient"], name="largest"))
    with pytest.raises(ValueError, match=r"^largest of dask arrays is not known to be a sum or mean over blocks"):
        merging_of("largest", {})


def test_the_matrix_of_rows_of_dask_arrays_is_lazy_too():
    lazy, eager = gk.rows(P, THETA, DX, DY), gk.rows(P, THETA, X, Y)
    assert (lazy.shape, lazy[5:9].shape) == ((N, 4), (4, 4))
    v, w = np.arange(4.0), WEIGHTS[:, 0]
    for of in (
        lambda rows: rows @ v,
        lambda rows: w @ rows,
        lambda rows: rows.T @ WEIGHTS,
        lambda rows: rows @ rows.T,
        lambda rows: rows.T @ rows,
        lambda rows: rows.norms(),
        lambda rows: rows.mean(),
        lambda rows: rows.dense(),
        lambda rows: rows[5:9].variance(),
    ):
        assert_same(of(lazy), of(eager))
    assert_same(da.from_array(w, chunks=7) @ lazy.dense(), w @ eager)
    assert_same(lazy.T @ da.from_array(w, chunks=7), w @ eager)


def test_scipy_runs_on_the_lazy_matrix():
    linalg = pytest.importorskip("scipy.sparse.linalg")
    g, operator = gk.per_sample(P, THETA, X, Y), gk.rows(P, THETA, DX, DY).linear_operator()
    np.testing.assert_allclose(operator.matvec(THETA), g @ THETA, rtol=1e-12)
    np.testing.assert_allclose(operator.rmatvec(WEIGHTS[:, 0]), WEIGHTS[:, 0] @ g, rtol=1e-12)
    np.testing.assert_allclose(linalg.lsqr(operator, Y)[0], np.linalg.lstsq(g, Y)[0], rtol=1e-6)


def test_a_block_is_computed_on_one_thread_and_the_process_gets_its_threads_back(monkeypatch):
    torch, numba = pytest.importorskip("torch"), pytest.importorskip("numba")
    from gradkernels.backend import BACKENDS
    from gradkernels.scale.one_thread import one_thread

    before, own = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread(BACKENDS["numba"]):
            assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
            with one_thread(BACKENDS["torch"]):
                pass
            assert torch.get_num_threads() == 1  # until the last of them leaves
        assert (torch.get_num_threads(), numba.get_num_threads()) == (3, own)
    finally:
        torch.set_num_threads(before)


def test_what_travels_to_workers_is_names_and_not_code():
    import pickle

    for asked in ("gradient", "moments", "outer of groups", "norms"):
        function, options = ASKED[asked]
        result = function(P, THETA, DX, DY, **options)
        for array in parts(result).values():
            again = pickle.loads(pickle.dumps(array))
            np.testing.assert_array_equal(again.compute(), array.compute())


def test_a_kernel_alone_computes_no_dask_arrays():
    with pytest.raises(TypeError, match="like has dask arrays, .* or pass n=, the rows of a block"):
        gk.fastest(P, "norms", like=(THETA, DX, DY))
