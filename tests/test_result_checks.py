"""A result of a module's samples is held entry by entry against their own gradients, to what its dtype can know."""

from types import SimpleNamespace

import pytest
import torch
from result_messages import message

from gradkernels.check.modules.choose_check import result_check
from gradkernels.check.modules.result_checks import SampleGradient, coarsest_dtype, gradient_norm
from gradkernels.quantity import QUANTITIES, Moments

INF, NAN = float("inf"), float("nan")
# Tolerances: 4e-2 in bfloat16, so that an entry may be off by 1 where the scale is 25; 5e-3 in float16, 1e-4 in
# float32, 1e-10 in float64.


def single(weight, bias=(0.0,), scale=25.0, error=0.0):
    """A sample whose gradient has two parts; its length is by hand."""
    row = {"weight": torch.tensor(weight), "bias": torch.tensor(bias)}
    length = sum(one * one for one in (*weight, *bias)) ** 0.5
    return SampleGradient(row, length, scale, error)


def held(quantity, found, *singles, places=None, dtype="bfloat16", n=None, options=(), times=None):
    """Hold a result against single gradients; the message, or None."""
    places = range(len(singles)) if places is None else places
    n = len(singles) if n is None else n
    check = result_check(
        QUANTITIES[quantity], found, places, n, dict(options), SimpleNamespace(dtype=dtype), "here", times
    )
    return message(check, singles)


def rows(*weights, bias=0.0, dtype=torch.float32):
    return {"weight": torch.tensor(weights, dtype=dtype), "bias": torch.full((len(weights), 1), bias)}


# --- one entry


@pytest.mark.parametrize(
    ("got", "want", "says"),
    [
        (11.0, 10.0, None),
        (9.0, 10.0, None),
        (11.5, 10.0, "is 11.5, expected 10.0, off by 1.5, allowed 0.04"),
        (8.5, 10.0, "is 8.5, expected 10.0, off by 1.5, allowed 0.04"),
        (-10.0, 10.0, "is -10.0, expected 10.0, off by 20, allowed 0.04"),
        (NAN, 10.0, "is nan, expected 10.0, allowed 0.04"),
        (INF, 10.0, "is inf, expected 10.0, allowed 0.04"),
        (10.0, NAN, "is 10.0, expected nan, allowed 0.04"),
        (10.0, -INF, "is 10.0, expected -inf, allowed 0.04"),
        (NAN, NAN, None),
        (INF, INF, None),
        (-INF, -INF, None),
        (NAN, INF, "is nan, expected inf, allowed 0.04"),
        (INF, NAN, "is inf, expected nan, allowed 0.04"),
        (INF, -INF, "is inf, expected -inf, allowed 0.04"),
    ],
)
def test_an_entry_may_be_off_by_the_tolerance_of_its_scale_and_is_as_finite_as_it_should_be(got, want, says):
    for others in ([], [10.0], [10.0, NAN], [10.0, INF]):
        said = held("per_sample", rows([*others, got]), single([*others, want]))
        assert said == (None if says is None else f"here: entry ({len(others)},) of weight of sample 0 {says}")


def test_the_first_entry_that_is_wrong_is_named():
    said = held("per_sample", rows([10.5, 12.0, 13.0]), single([10.0, 10.0, 10.0]))
    assert said == "here: entry (1,) of weight of sample 0 is 12.0, expected 10.0, off by 2, allowed 0.04"


@pytest.mark.parametrize("scale", [INF, NAN])
@pytest.mark.parametrize(("got", "wrong"), [(100.0, False), (INF, True), (NAN, True)])
def test_where_the_scale_is_not_finite_only_what_is_not_finite_is_wrong(scale, got, wrong):
    said = held("per_sample", rows([got]), single([1.0], scale=scale))
    assert (said is not None) == wrong


@pytest.mark.parametrize(
    ("dtype", "off", "right"),
    [
        ("float64", 9e-11, True), ("float64", 2e-10, False),
        ("float32", 9e-5, True), ("float32", 2e-4, False),
        ("float16", 4e-3, True), ("float16", 6e-3, False),
    ],
)  # fmt: skip
def test_each_dtype_has_its_tolerance(dtype, off, right):
    one = SampleGradient({"weight": torch.ones(1, dtype=torch.float64)}, 1.0, 1.0, 0.0)
    said = held("per_sample", {"weight": torch.full((1, 1), 1 + off, dtype=torch.float64)}, one, dtype=dtype)
    assert (said is None) == right


def test_halves_are_subtracted_in_float32():
    # 2048 and 2049 are one number in float16; a difference of 2052 and 1 is 2051, and 2052 in float16.
    found = {"weight": torch.tensor([[2052.0]], dtype=torch.float16)}
    one = SampleGradient({"weight": torch.tensor([1.0], dtype=torch.float16)}, 1.0, 1.0, 0.0)
    assert "off by 2.1e+03" in held("per_sample", found, one, dtype="float16")
    one = one._replace(scale=2051 / 5e-3 + 0.1)
    assert held("per_sample", found, one, dtype="float16") is None


def test_a_result_may_be_part_of_a_graph_and_a_single_of_another_dtype():
    found = {"weight": torch.tensor([[10.0]], requires_grad=True)}
    one = SampleGradient({"weight": torch.tensor([10.5], dtype=torch.float64)}, 10.5, 25.0, 0.0)
    assert held("per_sample", found, one) is None


def test_what_leaves_the_range_of_the_results_dtype_is_infinite_there():
    one = SampleGradient({"weight": torch.tensor([70000.0], dtype=torch.float64)}, 7e4, 7e4, 0.0)
    assert held("per_sample", {"weight": torch.tensor([[INF]], dtype=torch.float16)}, one, dtype="float16") is None


def test_parameters_without_entries_are_right():
    found = {"weight": torch.zeros(1, 0), "bias": torch.zeros(1, 1)}
    assert held("per_sample", found, single([], bias=(0.0,), error=-1.0)) is None


# --- rows


def test_rows_are_found_at_their_places():
    found = rows([1.0], [20.0], [300.0])
    assert held("per_sample", found, single([300.0]), single([1.0]), places=[2, 0]) is None
    said = held("per_sample", found, single([300.0]), single([20.0]), places=[2, 0])
    assert said.startswith("here: entry (0,) of weight of sample 0 is 1.0, expected 20.0")


@pytest.mark.parametrize(
    ("bias", "error", "right"),
    [
        (0.001, 0.0, False),  # a part of 1e-4 of the length
        (0.000004, 0.0, True),  # of 4e-7
        (0.00002, 0.0, False),  # of 2e-6
        (0.001, 0.002, True),  # the single gradient has itself an error of more
        (0.003, 0.002, False),
    ],
)
def test_a_parameters_part_of_a_row_may_not_be_left_out_unless_it_is_a_millionth(bias, error, right):
    said = held("per_sample", rows([10.0]), single([10.0], bias=(bias,), error=error))
    assert said == (None if right else f"here: every entry of bias of sample 0 is zero, expected up to {bias:.3g}")


def test_a_part_that_is_off_by_just_what_is_allowed_may_not_be_left_out_either():
    assert "every entry of weight" in held("per_sample", rows([0.0, 0.0]), single([0.0, 1.0]))
    assert held("per_sample", rows([0.0, 0.5]), single([0.0, 1.0])) is None


def test_a_parameter_may_have_any_name():
    one = SampleGradient({"{at}{b}": torch.tensor([10.0])}, 10.0, 25.0, 0.0)
    said = held("per_sample", {"{at}{b}": torch.tensor([[20.0]])}, one)
    assert said.startswith("here: entry (0,) of ")


# --- norms


def test_norms_are_found_at_their_places_and_compared_to_the_scale():
    found = torch.tensor([5.0, 14.0])
    one, other = single([3.0, 4.0]), single([5.0], bias=(12.0,))
    assert held("norms", found, other, one, places=[1, 0]) is None
    said = held("norms", found, one, other, places=[1, 0])
    assert said == "here: the norm of sample 1 is 14.0, expected 5.0, off by 9, allowed 0.04"
    assert held("norms", torch.zeros(1), single([1.0])) is None, "a norm may be zero, within the tolerance"


def test_a_norm_is_a_real_number_in_the_dtype_of_the_result():
    one = SampleGradient({"weight": torch.tensor([3 + 4j])}, 5.0, 5.0, 0.0)
    assert held("norms", torch.tensor([5.0], dtype=torch.float64), one, dtype="float64") is None


# --- sums


def test_a_gradient_is_the_mean_over_n():
    singles = single([10.0, 20.0]), single([30.0, 0.0])
    found = {"weight": torch.tensor([20.0, 10.0]), "bias": torch.zeros(1)}
    assert held("gradient", found, *singles) is None
    said = held("gradient", found, *singles, n=4)
    assert said == "here: entry (0,) of weight is 20.0, expected 10.0, off by 10, allowed 0.04"
    twice = {"weight": torch.tensor([12.5, 10.0]), "bias": torch.zeros(1)}
    assert held("gradient", twice, *singles, n=4, times=[2, 1]) is None
    # 2 (2 * 25 + 25) / 4 = 37.5 is the scale, of which 0.04 is 1.5.
    off = {"weight": torch.tensor([12.5, 11.49]), "bias": torch.zeros(1)}
    assert held("gradient", off, *singles, n=4, times=[2, 1]) is None
    off = {"weight": torch.tensor([12.5, 11.75]), "bias": torch.zeros(1)}
    assert "is 11.75, expected 10.0, off by 1.8" in held("gradient", off, *singles, n=4, times=[2, 1])


@pytest.mark.parametrize(("options", "factors"), [((), (0.2, 1.0, 1.0)), ((("max_norm", 10.0),), (1.0, 1.0, 1.0)),
                                                  ((("max_norm", 2.5),), (0.5, 1.0, 1.0))])  # fmt: skip
def test_a_clipped_sum_has_each_row_times_its_factor(options, factors):
    singles = single([3.0, 4.0], scale=5.0), single([0.5, 0.0], scale=0.5), single([0.0, 0.0], scale=0.5)
    total = factors[0] * torch.tensor([3.0, 4.0]) + torch.tensor([0.5, 0.0])
    allowed = 0.04 * 2 * (factors[0] * 5.0 + 0.5 + 0.5)
    for off, right in ((0.0, True), (0.9 * allowed, True), (-0.9 * allowed, True), (1.1 * allowed, False)):
        found = {"weight": total + torch.tensor([0.0, off]), "bias": torch.zeros(1)}
        said = held("clipped_sum", found, *singles, options=options)
        assert said is None if right else said.startswith("here: entry (1,) of weight is ")
    twice = {"weight": factors[0] * torch.tensor([9.0, 12.0]), "bias": torch.zeros(1)}
    assert held("clipped_sum", twice, singles[0], options=options, times=[3]) is None
    assert held("clipped_sum", twice, singles[0], options=options) is not None


@pytest.mark.parametrize(
    ("weight", "max_norm", "clipped"),
    # The factor of an infinite row is 0, and 0 * inf is no number; where nothing is clipped, neither is inf / inf.
    [([INF, 1.0], 1.0, [NAN, 0.0]), ([NAN, 1.0], 1.0, [NAN, NAN]), ([3.0, 4.0], INF, [3.0, 4.0]),
     ([INF, 1.0], INF, [NAN, NAN]), ([0.0, 0.0], INF, [0.0, 0.0])],
)  # fmt: skip
def test_a_row_that_is_not_finite_is_clipped_as_by_definition(weight, max_norm, clipped):
    rows = {"weight": torch.tensor([weight]), "bias": torch.zeros(1, 1)}
    of = QUANTITIES["clipped_sum"].of(torch, rows, max_norm=max_norm)
    assert torch.equal(of["weight"].nan_to_num(77), torch.tensor(clipped).nan_to_num(77))
    one = single(weight)._replace(length=gradient_norm({"weight": torch.tensor(weight)}))
    assert held("clipped_sum", of, one, options={"max_norm": max_norm}) is None
    if clipped != weight:
        assert held("clipped_sum", {**of, "weight": torch.tensor([1.0, 77.0])}, one, options={"max_norm": max_norm})


def test_a_parameters_part_of_a_sum_may_be_left_out_within_the_tolerance():
    found = {"weight": torch.zeros(1), "bias": torch.zeros(1)}  # the scale is 4, the tolerance 0.16
    assert held("gradient", found, single([0.159], scale=2.0)) is None
    assert "entry (0,) of weight is 0.0" in held("gradient", found, single([0.161], scale=2.0))


def test_sums_of_halves_are_added_in_float32_and_leave_the_singles_as_they_are():
    # 2048 + 1 + 1 is 2048 in float16.
    singles = [SampleGradient({"weight": torch.tensor([value], dtype=torch.float16)}, value, 0.05, 0.0)
               for value in (2048.0, 1.0, 1.0)]  # fmt: skip
    found = {"weight": torch.tensor([2050.0], dtype=torch.float16)}
    assert held("clipped_sum", found, *singles, options=(("max_norm", INF),), dtype="float16") is None
    assert [one.row["weight"].item() for one in singles] == [2048.0, 1.0, 1.0]
    exact = [SampleGradient({"weight": torch.tensor([value])}, value, value, 0.0) for value in (2.0, 1.0)]
    held("clipped_sum", {"weight": torch.tensor([3.0])}, *exact, options=(("max_norm", INF),))
    assert [one.row["weight"].item() for one in exact] == [2.0, 1.0]


# --- moments


def test_moments_are_mean_and_variance_over_n():
    singles = single([1.0], scale=1.0), single([2.0], scale=2.0), single([6.0], scale=6.0)
    zero = {"weight": torch.zeros(1), "bias": torch.zeros(1)}

    def said(mean, variance):
        found = Moments({**zero, "weight": torch.tensor([mean])}, {**zero, "weight": torch.tensor([variance])})
        return held("moments", found, *singles)

    # The mean is 3, the variance (4 + 1 + 9) / 3; the scales 3 and 2 (1 + 4 + 36) / 3 = 27.33.
    assert said(3.0, 14 / 3) is None
    assert said(3.119, 14 / 3) is None
    assert said(3.121, 14 / 3).startswith("here: entry (0,) of the mean of weight is 3.12")
    assert said(2.879, 14 / 3).startswith("here: entry (0,) of the mean of weight is 2.87")
    assert said(3.0, 14 / 3 + 1.09) is None
    assert said(3.0, 14 / 3 + 1.1).startswith("here: entry (0,) of the variance of weight is 5.7")
    assert said(3.0, 14 / 3 - 1.1).startswith("here: entry (0,) of the variance of weight is 3.5")
    assert singles[0].row["weight"].item() == 1.0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_moments_of_an_infinite_entry_are_infinity_and_no_number(order):
    values = 1.0, INF, 2.0
    singles = [single([values[place]]) for place in order]
    zero = {"weight": torch.zeros(1), "bias": torch.zeros(1)}

    def said(mean, variance):
        return held(
            "moments", Moments(*({**zero, "weight": torch.tensor([one])} for one in (mean, variance))), *singles
        )

    assert said(INF, NAN) is None
    assert said(NAN, NAN) == "here: entry (0,) of the mean of weight is nan, expected inf, allowed 0.04"
    assert said(INF, INF) == "here: entry (0,) of the variance of weight is inf, expected nan, allowed 0.04"


def test_the_variance_of_one_sample_is_zero_and_no_number_where_that_is_infinite():
    found = Moments({"weight": torch.tensor([3.0, INF]), "bias": torch.zeros(1)},
                    {"weight": torch.tensor([0.0, NAN]), "bias": torch.zeros(1)})  # fmt: skip
    assert held("moments", found, single([3.0, INF])) is None


def test_a_mean_may_be_zero_within_the_tolerance():
    zero = {"weight": torch.zeros(1), "bias": torch.zeros(1)}
    assert held("moments", Moments(zero, zero), single([0.9]), single([0.9])) is None


def test_moments_of_halves_are_taken_in_float32():
    singles = [SampleGradient({"weight": torch.tensor([value], dtype=torch.float16)}, value, 1.0, 0.0)
               for value in (2048.0, 2050.0)]  # fmt: skip
    found = Moments({"weight": torch.tensor([2049.0])}, {"weight": torch.tensor([1.0])})
    assert held("moments", found, *singles, dtype="float16") is None


# --- dtypes and lengths


def test_the_coarsest_dtype_is_the_one_with_the_largest_tolerance():
    def of(*dtypes):
        return coarsest_dtype({str(i): torch.zeros(1, dtype=one) for i, one in enumerate(dtypes)})

    assert of(torch.float64, torch.float32) == "float32"
    assert of(torch.float32, torch.bfloat16, torch.float16) == "bfloat16"
    assert of(torch.float32, torch.float16) == "float16"
    assert of(torch.float64, torch.complex64) == "float64"


def test_a_length_is_from_squares_in_float64_and_of_both_parts_of_complex_numbers():
    assert gradient_norm({"a": torch.tensor([3e30]), "b": torch.tensor([[4e30]])}) == pytest.approx(5e30, rel=1e-6)
    assert gradient_norm({"a": torch.full((2,), 6e4, dtype=torch.float16)}) == pytest.approx(84852.8, rel=1e-6)
    assert gradient_norm({"a": torch.tensor([3 + 4j]), "b": torch.tensor([12.0])}) == pytest.approx(13.0)
