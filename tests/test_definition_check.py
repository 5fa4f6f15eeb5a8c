"""A result that is held against its quantity's own definition, of gradients that were computed one by one."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from result_messages import message
from torch import nn

import gradkernels as gk
from gradkernels.check.modules.choose_check import result_check
from gradkernels.check.modules.definition_check import DefinitionCheck, SingleGradients, as_floats
from gradkernels.check.modules.result_checks import SampleGradient
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.quantities.clipped_sum_by import Clipped
from gradkernels.quantity import QUANTITIES

INF, NAN = float("inf"), float("nan")
THETA = {"w": torch.zeros(1, 2), "b": torch.zeros(1)}
BATCH = CallerBatch(None, THETA, None, None)
BY = (("weights", ("w",)), ("bias", ("b",)))


def single(row, scale=25.0):
    """A sample's gradient of three numbers, and the scale of its rounding."""
    parts = {"w": torch.tensor([row[:2]], dtype=torch.float64), "b": torch.tensor(row[2:], dtype=torch.float64)}
    return SampleGradient(parts, float(np.linalg.norm(row)), scale, 0.0)


ONE, TWO = single([3.0, 0.0, 4.0], 5.0), single([0.0, 6.0, 8.0], 10.0)


def held(quantity, found, singles, places=(), options=(), times=None, batch=BATCH):
    """The message, or None."""
    of = QUANTITIES[quantity] if isinstance(quantity, str) else quantity
    check = result_check(of, found, places, len(singles), dict(options), batch, "here", times)
    assert isinstance(check, DefinitionCheck)
    return message(check, singles)


# --- what a definition is given


def test_gradients_that_were_computed_one_by_one_share_in_the_rounding_of_their_row():
    of = SingleGradients(BATCH, [(np.array([3.0, 0.0, 4.0]), 5.0), (np.array([0.0, 6.0, 8.0]), 10.0)])
    assert (of.theta, of.rows.tolist()) == (THETA, [[3, 0, 4], [0, 6, 8]])
    assert of.scale.tolist() == [[5, 5, 5], [10, 10, 10]]
    assert (of.gradient.tolist(), of.norm_scale.tolist()) == ([1.5, 3, 6], [5, 10])
    none = SingleGradients(BATCH, [])
    assert (none.rows.shape, none.gradient.tolist(), none.norm_scale.tolist()) == ((0, 3), [0, 0, 0], [])


def test_gradients_of_other_samples_are_those_of_their_own_passes():
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(1.0)
    problem = gk.ModuleProblem(model, nn.MSELoss())
    batch = CallerBatch(problem, problem.parameters(), torch.zeros(5, 1), torch.zeros(5, 1))
    other = SingleGradients(batch, []).of_batch((torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [6.0]])))
    # The residuals are 2 and -1.
    assert (other.rows.tolist(), other.batch) == ([[4, 4], [-4, -2]], batch)
    assert other.norm_scale == pytest.approx([32**0.5, 20**0.5])


def test_a_definition_is_given_numbers_of_numpy_in_float64_and_other_samples_as_the_model_takes_them():
    seen, x, y = [], torch.zeros(1), torch.zeros(1)
    gram = replace(QUANTITIES["gram"], expect=lambda truth, **options: seen.append(options) or (np.zeros((1, 0)), 0.0))
    options = {"other": (x, y), "v": {"a": torch.ones(1)}, "groups": torch.tensor([1]), "word": "low"}
    assert held(gram, torch.zeros(1, 0), [ONE], [0], options) is None
    assert seen[0]["other"][0] is x
    assert (seen[0]["v"]["a"].dtype, seen[0]["groups"].dtype, seen[0]["word"]) == (np.float64, np.int64, "low")
    wide = as_floats(torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True))
    assert (type(wide), wide.dtype, wide.tolist()) == (np.ndarray, np.float64, [0.5])


# --- which part of a result belongs to the singles


def test_parts_of_samples_are_found_at_their_places():
    # Products with (1, 1, 1) are 7 and 14, and of the float32 tolerance 1e-4 of the scale times the root of 3 is left.
    v = {"v": {name: torch.ones_like(part) for name, part in THETA.items()}}
    found = torch.tensor([14.0, 99.0, 7.0])
    assert held("inner", found, [ONE, TWO], [2, 0], v) is None
    assert held("inner", found, [ONE, TWO], [0, 2], v).startswith("here: entry (0,) is 14.0, expected 7.0, off by 7")
    by = {"by": BY}
    found = {"weights": torch.tensor([6.0, 99.0, 3.0]), "bias": torch.tensor([8.0, 99.0, 4.0])}
    assert held("norms_by", found, [ONE, TWO], [2, 0], by) is None
    assert "entry (0, 0) is 6.0, expected 3.0" in held("norms_by", found, [ONE, TWO], [0, 2], by)


def test_products_of_pairs_are_found_at_both_places_unless_the_others_are_given():
    found = torch.tensor([[100.0, 0.0, 32.0], [0.0, 0.0, 0.0], [32.0, 0.0, 25.0]])
    assert held("gram", found, [ONE, TWO], [2, 0]) is None
    assert held("gram", found, [ONE, TWO], [1, 0]).startswith("here: entry (0, 0) is 0.0, expected 25.0, off by 25,")
    stacked = {"one": found, "two": found * 0}
    twice = replace(QUANTITIES["gram_by"], expect=lambda truth, **options: (np.stack([[[25.0, 32], [32, 100]],
                    np.zeros((2, 2))], 2), 1.0))  # fmt: skip
    assert held(twice, stacked, [ONE, TWO], [2, 0], {"by": BY}) is None
    others = replace(QUANTITIES["gram"], expect=lambda truth, other: (np.array([[1.0, 2.0, 3.0]]), 1.0))
    assert held(others, torch.tensor([[0.0] * 3, [1.0, 2.0, 3.0]]), [ONE], [1], {"other": (BATCH, BATCH)}) is None


def test_sums_beside_norms_are_of_the_singles_and_the_norms_at_their_places():
    sums = {"w": torch.tensor([[3.0, 6.0]]), "b": torch.tensor([12.0])}
    options = {"max_norm": {"weights": 99.0, "bias": 99.0}, "by": BY}
    norms = {"weights": torch.tensor([6.0, 99.0, 3.0]), "bias": torch.tensor([8.0, 99.0, 4.0])}
    assert held("clipped_sum_by", Clipped(sums, norms), [ONE, TWO], [2, 0], options) is None
    said = held("clipped_sum_by", Clipped(sums, norms), [ONE, TWO], [1, 0], options)
    assert said.startswith("here: entry (3,) is 99.0, expected 3.0")


def test_a_sum_has_each_single_as_often_as_it_was_given():
    options = {"groups": torch.tensor([1, 1, 0]), "count": 2}
    found = {"w": torch.tensor([[[0.0, 6.0]], [[6.0, 0.0]]]), "b": torch.tensor([[8.0], [8.0]])}
    assert held("group_sums", found, [ONE, TWO], (), options, times=[2, 1]) is None
    assert held("outer", torch.tensor([[9.0, 0, 12], [0, 36, 48], [12, 48, 80]]), [ONE, TWO]) is None
    assert "off by 9" in held(
        "outer", torch.tensor([[9.0, 0, 12], [0, 36, 48], [12, 48, 80]]), [ONE, TWO], times=[2, 1]
    )


# --- how far an entry may be off


@pytest.mark.parametrize(
    ("dtype", "got", "want", "right"),
    [
        (torch.float32, 1.00009, 1.0, True), (torch.float32, 1.00011, 1.0, False), (torch.float32, 0.99989, 1.0, False),
        (torch.float64, 1 + 9e-11, 1.0, True), (torch.float64, 1 + 2e-10, 1.0, False),
        (torch.float32, NAN, NAN, True), (torch.float32, INF, INF, True), (torch.float32, -INF, -INF, True),
        (torch.float32, NAN, 1.0, False), (torch.float32, 1.0, NAN, False), (torch.float32, INF, 1.0, False),
        (torch.float32, -INF, INF, False), (torch.float32, NAN, INF, False), (torch.float32, INF, NAN, False),
        # The largest number of float32 is 3.4028e38, of float64 1.8e308.
        (torch.float32, INF, 3.5e38, True), (torch.float32, INF, 3.4026e38, True), (torch.float32, INF, 3.4e38, False),
        (torch.float32, -INF, -3.5e38, True), (torch.float32, -INF, 3.5e38, False), (torch.float32, NAN, 3.5e38, False),
        (torch.float64, INF, 3.5e38, False),
    ],
)  # fmt: skip
def test_an_entry_is_off_by_no_more_than_its_scale_allows_and_is_as_finite_as_it_should_be(dtype, got, want, right):
    made = replace(QUANTITIES["inner"], expect=lambda truth: (np.array([1.0, want]), np.array([1.0, 1.0])), shape=None)
    batch = replace(BATCH, theta={name: part.to(dtype) for name, part in THETA.items()})
    said = held(made, torch.tensor([1.0, got], dtype=dtype), [ONE, TWO], [0, 1], batch=batch)
    assert (said is None) == right
    assert right or said.startswith("here: entry (1,) is ")


def test_the_message_says_which_entry_and_by_how_much():
    made = replace(QUANTITIES["outer"], expect=lambda truth: (np.array([[1.0, 2.0], [3.0, 4.0]]), 10.0))
    said = held(made, torch.tensor([[1.0005, 2.0], [3.5, 5.0]], dtype=torch.float64).float(), [ONE])
    assert said == "here: entry (1, 0) is 3.5, expected 3.0, off by 0.5, allowed 0.0001"
    said = held(made, torch.tensor([[1.0, INF], [3.0, 4.0]]), [ONE])
    assert said == "here: entry (0, 1) is inf, expected 2.0, allowed 0.0001"


def test_a_result_of_several_dtypes_overflows_where_the_widest_does():
    made = replace(QUANTITIES["moments"], name="made", expect=lambda truth: (np.array([1e5]), 1.0), sample_parts=())
    batch = SimpleNamespace(dtype="float32", theta=THETA)
    found = {"a": torch.tensor([INF]).half(), "b": torch.zeros(0)}
    assert "is inf, expected 100000.0" in held(made, found, [ONE], batch=batch)
    assert held(made, {"a": torch.tensor([INF]).half(), "b": torch.zeros(0).half()}, [ONE], batch=batch) is None
