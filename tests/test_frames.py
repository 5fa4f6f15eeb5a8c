"""DataFrames and Series as inputs: the numbers in them, by their columns, and numpy arrays as results."""

import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import gradkernels as gk

pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((6, 2)), RNG.standard_normal(6)
FRAME, SERIES = pd.DataFrame(X, columns=["a", "b"]), pd.Series(Y, name="y")
THETA = np.array([0.5, -1.0, 2.0])
LINEAR = gk.LinearRegression()
FUNCTIONS = (gk.gradient, gk.per_sample, gk.norms, gk.clipped_sum)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_frames_give_what_the_arrays_in_them_give(function):
    for x, y in ((FRAME, SERIES), (FRAME, Y), (X, SERIES), (FRAME.astype("Float64"), SERIES)):
        found = function(LINEAR, THETA, x, y)
        assert type(found) is np.ndarray
        assert_array_equal(found, function(LINEAR, THETA, X, Y))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_frames_of_polars_are_taken_too(function):
    frame, series = pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}), pl.Series("y", Y)
    wanted = function(LINEAR, THETA, X, Y)
    for x, y in ((frame, series), (frame, Y), (X, series)):
        found = function(LINEAR, THETA, x, y)
        assert type(found) is np.ndarray
        assert_array_equal(found, wanted)
    one = function(LINEAR, pl.Series(THETA[:2]), frame["a"], series)
    assert_array_equal(one, function(LINEAR, THETA[:2], X[:, 0], Y))


def test_frames_of_polars_may_hold_whole_numbers_truth_values_gaps_and_classes():
    counts = pl.DataFrame({"a": [1, 2, None], "b": [True, False, True]})
    plain = np.array([[1.0, 1.0], [2.0, 0.0], [np.nan, 1.0]])
    assert_array_equal(gk.norms(LINEAR, THETA, counts, pl.Series(Y[:3])), gk.norms(LINEAR, THETA, plain, Y[:3]))
    softmax, theta, labels = gk.SoftmaxRegression(classes=3), RNG.standard_normal((2, 3)), [0, 1, 2, 0, 1, 2]
    found = gk.norms(softmax, theta, pl.Series(X[:, 0]), pl.Series(labels))
    assert_array_equal(found, gk.norms(softmax, theta, X[:, 0], np.array(labels)))
    bound = gk.fastest(LINEAR, "norms", like=(THETA, pl.DataFrame(X), pl.Series(Y)))
    assert_array_equal(bound(THETA, pl.DataFrame(X), pl.Series(Y)), gk.norms(LINEAR, THETA, X, Y))


def test_rows_of_a_frame_are_those_of_the_formula():
    rows = gk.per_sample(LINEAR, THETA, FRAME, SERIES)
    slopes = 2 * (THETA[0] + X @ THETA[1:] - Y)
    np.testing.assert_allclose(rows, slopes[:, None] * np.column_stack([np.ones(6), X]), rtol=1e-12)


def test_arrays_after_frames_and_frames_after_arrays_are_told_apart():
    for _ in range(2):
        assert_array_equal(gk.norms(LINEAR, THETA, FRAME, SERIES), gk.norms(LINEAR, THETA, X, Y))
        assert_array_equal(gk.norms(LINEAR, THETA, 2 * FRAME, SERIES), gk.norms(LINEAR, THETA, 2 * X, Y))


def test_a_series_is_one_feature_and_whole_numbers_are_numbers():
    counts = pd.DataFrame({"a": [1, 2, 3], "b": [True, False, True]})
    plain = np.array([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    assert_array_equal(gk.norms(LINEAR, THETA, counts, SERIES[:3]), gk.norms(LINEAR, THETA, plain, Y[:3]))
    one = gk.norms(LINEAR, THETA[:2], FRAME["a"], SERIES)
    assert_array_equal(one, gk.norms(LINEAR, THETA[:2], X[:, 0], Y))
    single = gk.norms(LINEAR, THETA.astype("f4"), counts, pd.Series([1, 2, 3]))
    assert single.dtype == np.float32


def test_classes_may_be_a_series_of_whole_numbers():
    softmax, theta = gk.SoftmaxRegression(classes=3), RNG.standard_normal((3, 3))
    labels = pd.Series([0, 1, 2, 0, 1, 2])
    assert_array_equal(gk.norms(softmax, theta, FRAME, labels), gk.norms(softmax, theta, X, labels.to_numpy()))


def test_weights_and_results_memory_go_with_frames():
    weights, out = pd.Series(np.arange(1.0, 7)), np.empty((6, 3))
    found = gk.per_sample(LINEAR, THETA, FRAME, SERIES, sample_weight=weights, out=out)
    assert found is out
    assert_array_equal(out, gk.per_sample(LINEAR, THETA, X, Y, sample_weight=weights.to_numpy()))


def test_a_kernel_that_is_bound_for_frames_takes_them():
    bound = gk.fastest(LINEAR, "per_sample", like=(THETA, FRAME, SERIES))
    wanted = gk.per_sample(LINEAR, THETA, X, Y)
    assert_array_equal(bound(THETA, FRAME, SERIES), wanted)
    assert_array_equal(bound(THETA, X, Y), wanted)


def test_gaps_are_nan_in_their_own_rows():
    gap = FRAME.astype("Float64")
    gap.loc[2, "a"] = pd.NA
    norms = gk.norms(LINEAR, THETA, gap, SERIES)
    assert np.isnan(norms).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (FRAME.assign(b=list("abcdef")), SERIES, "column 'b' of x holds "),
        (FRAME.assign(b=pd.Timestamp("2026-01-01")), SERIES, "column 'b' of x holds datetime64"),
        (FRAME, pd.Series(list("abcdef")), "y, a Series, holds "),
        (pl.DataFrame({"a": Y, "b": list("abcdef")}), SERIES, "column 'b' of x holds String, not numbers"),
        (pl.DataFrame(X).lazy(), SERIES, "x is a polars.lazyframe.frame.LazyFrame; allowed are arrays of "),
    ],
)
def test_what_is_no_number_is_named_by_its_column(x, y, says):
    with pytest.raises(TypeError, match=re.escape(says)):
        gk.per_sample(LINEAR, THETA, x, y)


def test_other_dtypes_are_refused_as_those_of_arrays_are():
    with pytest.raises(TypeError, match="float32"):
        gk.norms(LINEAR, THETA.astype("f4"), FRAME, SERIES)


def test_chunks_of_frames_are_those_of_arrays():
    chunks = list(gk.per_sample_chunks(LINEAR, THETA, FRAME, SERIES, chunk=4))
    assert [len(rows) for _, rows in chunks] == [4, 2]
    assert_array_equal(np.concatenate([rows for _, rows in chunks]), gk.per_sample(LINEAR, THETA, X, Y))
