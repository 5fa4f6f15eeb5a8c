"""Passes of single samples: which samples, what they give, and what is looked at again in float64."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules import sample_passes
from gradkernels.check.modules.sample_passes import (
    CallerBatch,
    bytes_per_row,
    choose_samples,
    require_agreement,
)
from gradkernels.check.true_gradients import TrueGradients

INF, NAN = float("inf"), float("nan")


def linear(dtype=torch.float32):
    """The model 2 x + 1 and its squared loss, on three samples."""
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(1.0)
    problem = gk.ModuleProblem(model.to(dtype), nn.MSELoss())
    x, y = torch.tensor([[1.0], [2.0], [-1.0]], dtype=dtype), torch.tensor([[1.0], [6.0], [-1.0]], dtype=dtype)
    return CallerBatch(problem, problem.parameters(), x, y)


# The residuals are 2, -1 and 0: rows are twice that, times x for the weight.
WEIGHT, BIAS = (4.0, -4.0, 0.0), (4.0, -2.0, 0.0)


# --- which samples


def drawn(n, **changes):
    """The numbers that are chosen of n samples of two inputs and whole numbers as targets."""
    x = (torch.zeros(n, 2, 2), torch.zeros(n))
    for (part, sample), value in changes.get("odd", {}).items():
        x[part][sample] = value
    theta = changes.get("theta", {"a": torch.zeros(2)})
    most = {name: changes[name] for name in ("most",) if name in changes}
    return choose_samples(CallerBatch(None, theta, x, torch.arange(n)), **most)


def test_the_first_eight_samples_are_chosen_in_an_order_that_is_no_order():
    assert drawn(10) == [1, 0, 2, 3, 4, 5, 6, 7]
    assert drawn(5) == [1, 0, 2, 3, 4]
    assert drawn(10, most=4) == [1, 0, 2, 3]


def test_of_too_few_samples_some_are_chosen_again_and_of_none_none():
    assert [drawn(n) for n in range(4)] == [[], [0, 0, 0], [1, 0, 1], [1, 0, 2]]
    assert drawn(10, most=2) == [1, 0, 2]


def test_samples_that_are_not_finite_are_left_out():
    assert drawn(10, odd={(0, 0): NAN, (1, 3): INF}) == [2, 1, 4, 5, 6, 7, 8, 9]
    assert drawn(3, odd={(1, 0): -INF, (1, 1): NAN, (0, 2): INF}) == []
    half = torch.zeros(4, 3)
    half[2, 1] = NAN
    assert choose_samples(CallerBatch(None, {"a": torch.zeros(1)}, torch.arange(4), half)) == [1, 0, 3]


def test_finite_samples_are_looked_for_among_the_first_64():
    assert drawn(100, odd={(0, i): NAN for i in range(63)}) == [63, 63, 63]
    assert drawn(100, odd={(0, i): NAN for i in range(64)}) == []


def test_large_rows_are_chosen_fewer_of():
    fifth = {"a": torch.empty(2**27 // 5 // 4, device="meta")}
    assert drawn(10, theta=fifth) == [1, 0, 2, 3, 4]
    assert drawn(10, theta={"a": torch.empty(2**27, device="meta")}) == [1, 0, 2]
    two = {"a": torch.zeros(2, 3, dtype=torch.float64), "b": torch.zeros(5, dtype=torch.float16)}
    assert bytes_per_row(CallerBatch(None, two, None, None)) == 58


# --- what they give


def test_a_batch_of_some_samples_has_them_in_their_order_also_made_in_inference_mode():
    batch = linear()
    with torch.inference_mode():
        some = CallerBatch(batch.problem, batch.theta, (batch.x + 0, torch.arange(3)), batch.y + 0).of([2, 0, 0])
    assert some.x[0].flatten().tolist() == [-1.0, 1.0, 1.0]
    assert some.x[1].tolist() == [2, 0, 0]
    assert some.y.flatten().tolist() == [-1.0, 1.0, 1.0]
    assert not any(one.is_inference() for one in (*some.x, some.y))
    assert (some.problem, some.theta, some.dtype) == (batch.problem, batch.theta, "float32")


def test_each_single_pass_is_of_one_sample():
    seen, batch = [], linear()
    batch.problem.model.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    assert len([*batch.sample_gradients([0, 2])]) == 2
    assert seen == [1, 1]


def test_small_rows_are_held_several_at_a_time_and_are_those_of_passes_alone(monkeypatch):
    batch, sizes, loop = linear(), [], sample_passes.kernel_by_key("torch.loop.per_sample")
    build = type(loop).build

    def noting(kernel, problem):
        compute = build(kernel, problem)
        return lambda theta, x, y: sizes.append(len(y)) or compute(theta, x, y)

    monkeypatch.setattr(type(loop), "build", noting)
    together = [*batch.sample_gradients([2, 0, 1])]
    drawing = replace(batch, problem=replace(batch.problem, randomness="same"))  # whose passes may draw
    each_alone = [*drawing.sample_gradients([2, 0, 1])]
    monkeypatch.setattr(sample_passes, "ROW_BYTES_AT_ONCE", 1)
    alone = [*batch.sample_gradients([2, 0, 1])]
    assert sizes == [3, 1, 1, 1, 1, 1, 1]
    for others in (alone, each_alone):
        for one, other in zip(together, others, strict=True):
            assert one[1:] == other[1:]
            assert all(torch.equal(part, other.row[name]) for name, part in one.row.items())


def test_single_gradients_come_with_their_length_as_scale_and_what_is_left_of_one_that_vanishes():
    singles = [*linear().sample_gradients([2, 0, 1])]
    for single, i in zip(singles, (2, 0, 1), strict=True):
        assert (single.row["weight"].tolist(), single.row["bias"].tolist()) == ([[WEIGHT[i]]], [BIAS[i]])
    lengths = [0.0, 32**0.5, 20**0.5]
    assert [single.length for single in singles] == pytest.approx(lengths)
    assert [single.scale for single in singles] == pytest.approx(lengths)
    assert [single.error for single in singles] == pytest.approx([1.2e-7 * one for one in lengths])


# --- in float64


def wide(monkeypatch, rows, scale, errors, chosen=(1, 0), dtype=torch.float32):
    """The second look, where the truth is what is given; what was asked for it."""
    asked = []

    def truth(problem, theta, x, y):
        asked.append((problem, theta, x, y))
        rows_, scale_ = np.array(rows), np.broadcast_to(np.array(scale)[:, None], np.shape(rows))
        look = None if errors is None else lambda *given: asked.append(given) or np.array(errors)
        return TrueGradients(rows_, scale_, rows_.mean(0), np.array(scale), look)

    monkeypatch.setattr(sample_passes, "module_gradients", truth)
    return linear(dtype).float64_gradients([*chosen]), asked


def test_the_second_look_is_at_the_chosen_samples_in_float64(monkeypatch):
    found, asked = wide(monkeypatch, [[-4.0, -2.0], [4.0, 4.0]], [5.0, 6.0], [0.0, 0.0])
    (problem, theta, x, y), (samples, dtype) = asked
    assert isinstance(problem, gk.ModuleProblem)
    assert {name: one.tolist() for name, one in theta.items()} == {"weight": [[2.0]], "bias": [1.0]}
    assert all(isinstance(one, np.ndarray) for one in (*theta.values(), x, y))
    assert (x.tolist(), y.tolist(), [*samples], dtype) == ([[2.0], [1.0]], [[6.0], [1.0]], [0, 1], "float32")
    for single, want in zip(found, ((-4.0, -2.0), (4.0, 4.0)), strict=True):
        assert single.row["weight"].tolist() == [[want[0]]]
        assert single.row["bias"].tolist() == [want[1]]
        assert single.row["weight"].dtype == torch.float64
    assert [single.length for single in found] == pytest.approx([20**0.5, 32**0.5])
    assert [single.scale for single in found] == [5.0, 6.0]
    assert [single.error for single in found] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "errors", "error"),
    [
        ([[-4.0, -2.0], [4.0, 4.0]], None, 0.0),
        ([[-4.0, -2.5], [4.0, 4.0]], None, 0.5),  # how far the single pass is off
        ([[-4.0, -2.5], [4.0, 4.0]], [0.25, 0.0], 0.5),
        ([[-4.0, -2.5], [4.0, 4.0]], [0.75, 0.0], 0.75),  # what parameters that change a little say
        ([[-4.3, -2.4], [4.0, 4.0]], None, 0.5),
    ],
)
def test_the_scale_is_at_least_sixteen_times_what_the_single_pass_has_for_an_error(monkeypatch, rows, errors, error):
    (first, second), _ = wide(monkeypatch, rows, [5.0, 6.0], errors)
    assert first.error == pytest.approx(16 * error)
    assert first.scale == pytest.approx(max(5.0, 16 * error / 1e-4))
    assert second.error == 0.0


def test_a_sample_and_a_parameter_alone_have_a_second_look():
    problem = gk.ModuleProblem(nn.Linear(1, 1, bias=False), nn.MSELoss())
    theta = {"weight": torch.tensor([[2.0]])}
    batch = CallerBatch(problem, theta, torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [7.0]]))
    (single,) = batch.float64_gradients([1])
    assert single.row["weight"].item() == single.length * -1 == -6.0  # the residual is -1, and the input 3
    assert single.row["weight"].dtype == torch.float64


def test_a_scale_is_not_less_than_rounding_of_the_largest(monkeypatch):
    found, _ = wide(monkeypatch, [[-4.0, -2.0], [4.0, 4.0]], [0.0, 1e10], None)
    assert [single.scale for single in found] == pytest.approx([1200.0, 1e10])


@pytest.mark.parametrize("odd", [INF, NAN])
def test_what_is_not_finite_has_no_second_look(monkeypatch, odd):
    assert wide(monkeypatch, [[odd, -2.0], [4.0, 4.0]], [5.0, 6.0], None)[0] is None
    assert wide(monkeypatch, [[-4.0, -2.0], [4.0, 4.0]], [5.0, 6.0], [INF, 0.0])[0] is None


def test_a_model_that_cannot_compute_in_float64_has_no_second_look(monkeypatch):
    monkeypatch.setattr(sample_passes, "module_gradients", lambda *given: 1 / 0)
    assert linear().float64_gradients([0, 1]) is None


# --- agreement


class Held:
    """Notes what it is held against, and disagrees where it is told to."""

    def __init__(self, seen, name, wrong=None):
        self.seen, self.name, self.wrong = seen, name, wrong

    def add(self, i, single):
        self.seen.append((self.name, i, single))

    def finish(self):
        self.seen.append(self.name)
        if self.wrong:
            raise Disagreement(self.wrong)


def looked(wrong, second):
    """What is seen by two results, the second of which is wrong at each look where it is said to be."""
    seen, looks = [], iter(wrong)
    batch = SimpleNamespace(
        sample_gradients=lambda chosen: (f"single {i}" for i in chosen),
        float64_gradients=lambda chosen: second and [f"wide {i}" for i in chosen],
    )
    try:
        require_agreement(batch, [7, 5], lambda: [Held(seen, "a"), Held(seen, "b", next(looks))])
    except Disagreement as fault:
        seen.append(str(fault))
    return seen


FIRST = [("a", 0, "single 7"), ("b", 0, "single 7"), ("a", 1, "single 5"), ("b", 1, "single 5"), "a", "b"]
SECOND = [("a", 0, "wide 7"), ("b", 0, "wide 7"), ("a", 1, "wide 5"), ("b", 1, "wide 5"), "a", "b"]


def test_what_disagrees_is_made_anew_and_looked_at_again_in_float64():
    assert looked([None], True) == FIRST
    assert looked(["off", None], True) == FIRST + SECOND
    assert looked(["off", "still off"], True) == [*FIRST, *SECOND, "still off"]
    assert looked(["off"], None) == [*FIRST, "off"]


class Scaled(nn.Module):
    """A parameter that is one number, and one that is none."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(2, 1), nn.Parameter(torch.tensor(2.0))
        self.none = nn.Parameter(torch.ones(0))

    def forward(self, x):
        return self.linear(x) * self.scale + self.none.sum()


def test_parameters_of_one_number_and_of_none_have_their_part_in_each_norm():
    torch.manual_seed(0)
    model, x, y = Scaled(), torch.randn(3, 2), torch.zeros(3, 1)
    problem = gk.ModuleProblem(model, nn.MSELoss())
    slope = 2 * model(x) * 2
    by_scale = 2 * model(x) * model.linear(x)
    want = (slope.square() * (1 + x.square().sum(1, keepdim=True)) + by_scale.square()).sqrt()[:, 0].detach()
    torch.testing.assert_close(gk.norms(problem, None, x, y, kernel="torch.hooks"), want)
