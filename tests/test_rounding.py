"""What rounding does to rows of backward passes: scales, samples that mix, parameters that change a little."""

import numpy as np
import pytest

from gradkernels.check.rounding import changed_a_little, largest_distances, mixes_samples, row_scales

INF, NAN = np.inf, np.nan
STEP = 2.0**-23  # of float32 at 1


def test_the_scale_of_a_row_is_its_norm_or_what_float32_leaves_of_the_largest():
    assert row_scales(np.array([[0.3, 0.4], [0.0, 0.0], [0.03, 0.0]])) == pytest.approx([0.5, 0.5 * STEP, 0.03], abs=0)
    assert row_scales(np.array([[3.0, 4.0], [0.0, INF], [0.0, 0.0]])) == pytest.approx([5.0, INF, 5.0 * STEP], abs=0)
    assert row_scales(np.array([[NAN, 4.0], [6.0, 8.0]])) == pytest.approx([NAN, 10.0], nan_ok=True)
    assert row_scales(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-3), ("own", 0.05)])
def test_samples_mix_where_the_gradient_is_off_the_mean_by_more_than_the_mean_norm_allows(dtype, tolerance):
    rows = np.array([[30.0, 40.0], [-30.0, -40.0], [3.0, 4.0], [0.0, 0.0]])  # norms of 26.25 in the mean
    for sign in (1, -1):
        for factor, mixes in ((0.95, False), (1.05, True)):
            off = sign * factor * 26.25 * tolerance
            assert mixes_samples(rows, np.array([0.75 + 0.6 * off, 1.0 + 0.8 * off]), dtype) is mixes


@pytest.mark.parametrize("odd", [INF, NAN])
def test_of_rows_that_are_not_finite_nothing_can_be_said(odd):
    with np.errstate(all="ignore"):
        assert mixes_samples(np.array([[odd, 1.0], [1.0, 1.0]]), np.array([7.0, 8.0]), "float64") is False


def test_parameters_change_by_as_much_in_each_entry_and_each_time_also_the_other_way():
    theta, by = {"a": np.full((4, 3), 2.0), "b": np.array(-3.0)}, 2.0**-10
    first, second, third, fourth = made = [*changed_a_little(theta, by)]
    for one, other in ((first, second), (third, fourth)):
        for name, part in theta.items():
            signs = (one[name] / part - 1) / by
            assert set(np.abs(np.ravel(signs))) == {1.0}
            np.testing.assert_array_equal(other[name], part * (1 - by * signs))
    signs = [(one["a"] / 2 - 1) / by for one in (first, third)]
    assert all(set(one.flat) == {1.0, -1.0} for one in signs), "of several entries some grow and some shrink"
    assert (signs[0] != signs[1]).any(), "in another way each time"
    for one, again in zip(made, changed_a_little(theta, by), strict=True):
        np.testing.assert_array_equal(one["a"], again["a"])


def test_the_larger_distance_of_a_row_is_kept_unless_it_is_not_finite():
    rows = np.array([[3.0, 4.0], [1.0, 1.0], [1.0, 1.0], [INF, 1.0], [NAN, 1.0], [0.0, 1e200]])
    found = np.array([[0.0, 0.0], [1.0, 1.5], [INF, 1.0], [INF, 1.0], [1.0, 1.0], [0.0, -1e200]])
    known = np.array([2.0, 0.75, 0.0, 0.25, 0.0, 0.0])
    assert largest_distances(known, found, rows).tolist() == [5.0, 0.75, 0.0, 0.25, 0.0, 0.0]
