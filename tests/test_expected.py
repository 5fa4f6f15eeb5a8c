"""What a proof expects, and what quantities have to do with each other, from rows and scales in literal numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.check.compare_arrays import compare_entries
from gradkernels.check.identities import identities
from gradkernels.check.reference import Reference, true_gradients
from gradkernels.check.true_gradients import TrueGradients
from gradkernels.quantity import Moments

ROWS, SCALE = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[6.0, 8.0], [2.0, 0.0]])
GRADIENT = np.array([1.5, 2.25])  # not the mean of the rows, so that one is not taken for the other
FLOOR = 2.0**-23  # of a row's largest scale: float32's step at 1


def reference(rows=ROWS, scale=SCALE, gradient=GRADIENT, norm_scale=None, row_errors=None):
    known = TrueGradients(rows, scale, gradient, norm_scale, row_errors)
    return Reference(gk.LinearRegression(), np.zeros(2), np.zeros(len(rows)), np.zeros(len(rows)), known)


def expected(quantity, of, **options):
    found = of.expect(quantity, **options)
    value, scale = found.value, found.scale
    if quantity == "moments":
        return [part.tolist() for part in value], [part.tolist() for part in scale], found.terms
    return value.tolist(), scale.tolist(), found.terms


def test_quantities_where_each_entry_rounds_on_its_own():
    of = reference()
    assert expected("per_sample", of) == ([[3, 4], [0, 0]], [[6, 8], [2, 2 * FLOOR]], 6)
    assert expected("gradient", of) == ([1.5, 2.25], [4, 4 + FLOOR], 8)
    assert expected("norms", of) == ([5, 0], [10, pytest.approx(2, rel=1e-12)], 6)
    squares = [40, pytest.approx(64, rel=1e-12)]
    assert expected("moments", of) == ([[1.5, 2.25], [2.25, 4]], [[4, 4 + FLOOR], squares], 8)
    assert of.mean_row.tolist() == [1.5, 2]


def test_quantities_where_all_entries_of_a_row_round_alike():
    of = reference(scale=np.array([[10.0, 10.0], [2.0, 2.0]]), norm_scale=np.array([10.0, 2.0]))
    assert expected("per_sample", of) == ([[3, 4], [0, 0]], [[10, 10], [2, 2]], 6)
    assert expected("gradient", of) == ([1.5, 2.25], [6, 6], 8)
    assert expected("norms", of) == ([5, 0], [10, 2], 6)
    assert expected("moments", of) == ([[1.5, 2.25], [2.25, 4]], [[6, 6], [104, 104]], 8)
    assert expected("clipped_sum", of, max_norm=2.5) == ([1.5, 2], [14, 14], 8)


def test_rows_are_clipped_to_the_norm_and_the_factor_has_an_error_too():
    of = reference()
    assert expected("clipped_sum", of, max_norm=2.5) == ([1.5, 2], [10, 8 + 4 * FLOOR], 8)
    assert expected("clipped_sum", of, max_norm=5.0)[0] == [3, 4]
    assert expected("clipped_sum", of)[0] == pytest.approx([0.6, 0.8])
    unknown = reference(rows=np.array([[np.nan, 4.0], [3.0, 4.0]]))
    assert np.isnan(unknown.expect("clipped_sum", max_norm=9.0).value).all()


def test_parameters_with_several_outputs_are_as_many_numbers():
    shape = (2, 2, 1)
    of = reference(ROWS.reshape(shape), SCALE.reshape(shape), GRADIENT.reshape(2, 1))
    assert expected("per_sample", of) == ([[[3], [4]], [[0], [0]]], [[[6], [8]], [[2], [2 * FLOOR]]], 6)
    assert reference(np.ones((1, 2, 3)), np.ones((1, 2, 3)), np.ones((2, 3))).expect("per_sample").terms == 6 + 4
    assert of.norms.tolist() == [5, 0]
    assert expected("clipped_sum", of, max_norm=2.5) == ([[1.5], [2]], [[10], [8 + 4 * FLOOR]], 8)
    wide = reference(ROWS.reshape(shape), SCALE.reshape(shape), GRADIENT.reshape(2, 1), np.array([10.0, 2.0]))
    assert expected("gradient", wide) == ([[1.5], [2.25]], [[6], [6]], 8)
    assert wide.mean_square_scale.tolist() == [[52], [52]]
    assert expected("clipped_sum", wide, max_norm=2.5) == ([[1.5], [2]], [[14], [14]], 8)


def test_parts_of_rows_and_products_with_them_have_the_scales_of_their_entries():
    for shape in ((2, 2), (2, 2, 1)):  # several outputs are as many numbers
        of = reference(ROWS.reshape(shape), SCALE.reshape(shape))
        assert [part.tolist() for part in of.norms_over(np.array([1]))] == [[4, 0], [8, 2 * FLOOR]]
        assert [part.tolist() for part in of.norms_over(np.array([0, 1]))] == [
            [5, 0], [10, pytest.approx(2, rel=1e-12)],
        ]  # fmt: skip
        assert of.scale_along(np.array([1.0, -2.0])).tolist() == [22, 2 + 4 * FLOOR]
        assert of.scale_along(np.array([[1.0, -2.0], [0.0, 3.0]])).tolist() == [[22, 24], [2 + 4 * FLOOR, 6 * FLOOR]]
        blocks = [(slice(0, 1), np.array([[1.0], [2.0]])), (slice(1, 2), np.array([[-1.0], [3.0]]))]
        value, scale = of.along_blocks(iter(blocks))
        assert value.tolist() == [[-1, 18], [0, 0]]
        assert scale.tolist() == [[14, 36], [2 + 2 * FLOOR, 4 + 6 * FLOOR]]


def test_parts_of_rows_and_products_with_them_share_in_the_rounding_of_the_whole_row():
    for shape in ((2, 2), (2, 2, 1)):
        whole = np.broadcast_to(np.array([10.0, 2.0]).reshape(2, *[1] * (len(shape) - 1)), shape)
        of = reference(ROWS.reshape(shape), whole, norm_scale=np.array([10.0, 2.0]))
        assert [part.tolist() for part in of.norms_over(np.array([1]))] == [[4, 0], [10, 2]]
        assert of.scale_along(np.array([3.0, -4.0])).tolist() == [50, 10]
        assert of.scale_along(np.array([[3.0, -4.0], [0.0, 3.0]])).tolist() == [[50, 30], [10, 6]]
        blocks = [(slice(0, 1), np.array([[3.0], [0.0]])), (slice(1, 2), np.array([[-4.0], [3.0]]))]
        value, scale = of.along_blocks(iter(blocks))
        assert value.tolist() == [[-7, 12], [0, 0]]
        assert scale.tolist() == [[50, 30], [10, 6]]


def test_rows_that_a_precision_cannot_know_are_held_to_sixteen_times_their_error():
    asked = []

    def row_errors(samples, dtype):
        asked.append(([*samples], dtype))
        return np.array([0.5, 0.01])[samples]

    of = reference(scale=np.array([[10.0, 10.0], [2.0, 2.0]]), norm_scale=np.array([10.0, 2.0]), row_errors=row_errors)
    more = of.with_errors(np.array([0]), 0.1, "float32")
    assert more.norm_scale.tolist() == [80, 2]
    assert more.scale.tolist() == [[80, 80], [2, 2]]
    assert more.with_errors(np.array([0, 1]), 0.25, "float32").norm_scale.tolist() == [80, 2]
    assert asked == [([0], "float32"), ([0, 1], "float32")]
    assert of.norm_scale.tolist() == [10, 2]
    assert reference().with_errors(np.array([0]), 0.1, "float32") is None


def told(quantity, result, of):
    return [(one.says, *(np.asarray(part).tolist() for part in (one.left, one.right, one.scale)))
            for one in identities(quantity, result, of)]  # fmt: skip


def test_each_identity_sets_a_result_against_another_quantity():
    of = reference()
    mean_scale, squares = [4, 4 + FLOOR], [20, 32 + 2.0**-45]
    rows = np.array([[6.0, 8.0], [0.0, 1.0]])
    assert told("per_sample", rows, of) == [
        ("mean of rows = gradient", [3, 4.5], [1.5, 2.25], mean_scale),
        ("norms of rows = norms", [10, 1], [5, 0], [10, pytest.approx(2, rel=1e-12)]),
    ]
    assert told("gradient", np.array([7.0, 8.0]), of) == [("gradient = mean of rows", [7, 8], [1.5, 2], mean_scale)]
    # Variance (2.25, 4), and the squares of the gradient (1.5^2, 2.25^2).
    says = "mean squared norm = sum of variance + mean^2"
    assert told("norms", np.array([6.0, 2.0]), of) == [(says, 20, 13.5625, pytest.approx(104, rel=1e-12))]
    moments = Moments(np.array([2.0, 3.0]), np.array([1.0, 5.0]))
    says = "variance + mean^2 = mean of squared rows"
    assert told("moments", moments, of) == [(says, [5, 14], [4.5, 8], [4 * squares[0], pytest.approx(4 * squares[1])])]
    assert told("clipped_sum", np.array([7.0, 8.0]), of) == []


def test_entries_are_compared_in_units_of_their_own_scale():
    values, want, scale = np.array([[1.5, 2.0], [4.0, 9.0]]), np.array([[1.0, 2.0], [3.0, 9.0]]), np.full((2, 2), 10.0)
    assert compare_entries(values, want, scale, 0.2, "here") == pytest.approx(0.1)
    with pytest.raises(gk.Disagreement) as caught:
        compare_entries(values, want, scale, 0.09, "here", lambda at: f"number {at}")
    assert str(caught.value) == "here: number (1, 0) is 4.0, expected 3.0, off by 0.1 of its scale, allowed 0.09"
    with pytest.raises(gk.Disagreement) as caught:
        compare_entries(np.array([1.0, np.inf, np.nan]), np.array([1.0, 2.0, np.nan]), np.ones(3), 9.0, "here")
    assert str(caught.value) == "here: entry (1,) is inf, expected 2.0, one of them not finite"
    assert compare_entries(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), np.ones(2), 0.0, "here") == 0
    assert compare_entries(np.zeros(0), np.zeros(0), np.zeros(0), 0.0, "here") == 0


@pytest.mark.parametrize("want", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("got", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_so_in_its_kind_and_sign(got, want):
    values, wanted = np.array([1.0, got]), np.array([1.0, want])
    if repr(got) == repr(want):
        with np.errstate(invalid="ignore"):
            assert compare_entries(values, wanted, np.ones(2), 0.5, "here") == 0
        return
    with pytest.raises(gk.Disagreement) as caught:
        compare_entries(values, wanted, np.ones(2), 0.5, "here")
    assert str(caught.value) == f"here: entry (1,) is {got!r}, expected {want!r}, neither of them finite"


def test_inputs_are_taken_in_float64_complex_ones_as_two_and_classes_as_they_are():
    torch = pytest.importorskip("torch")

    class Parts(torch.nn.Linear):
        def forward(self, x):
            return super().forward(torch.view_as_real(x).flatten(1))

    torch.manual_seed(0)
    problem = gk.ModuleProblem(Parts(2, 2, bias=False), torch.nn.CrossEntropyLoss())
    theta, x, y = {"weight": np.zeros((2, 2), "f4")}, np.array([1 + 2j], "c8"), np.array([1])
    # Both classes are as likely, so that the slope is (0.5, -0.5).
    np.testing.assert_allclose(Reference(problem, theta, x, y).rows, [[0.5, 1, -0.5, -1]], rtol=1e-15)


def test_what_is_no_regression_module_or_function_has_no_reference():
    says = "^odd is no regression, module or JAX function; there is no reference for it$"
    with pytest.raises(TypeError, match=says):
        true_gradients(SimpleNamespace(name="odd"), np.zeros(2), np.zeros(3), np.zeros(3))
