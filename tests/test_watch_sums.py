"""Weighted sums, sums by group and outer products of a watched step, and clipped sums without what is not finite."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from tests.watched import MAKERS, flat_gradient, rows_of

SUMS = ["weighted_sum", "group_sums", "outer"]


@pytest.fixture
def small():
    torch.manual_seed(0)
    return MAKERS["mlp"]()


def flat(parts, leading):
    return torch.cat([one.flatten(leading) for one in parts.values()], leading)


def test_sums_are_those_of_single_samples(small):
    rows, n = rows_of(small), len(small.batch[0])
    weights, groups = torch.randn(n, 2), [i % 3 for i in range(n)]
    wanted = {
        "weighted_sum": {"weights": weights},
        "group_sums": {"groups": groups, "count": 4},
        "outer": {"groups": lambda: groups},
    }
    by_group = torch.zeros(4, rows.shape[1]).index_add_(0, torch.tensor(groups), rows)
    with gk.watch(small.model, wanted) as seen:
        small.loss(small.model, *small.batch).backward()
    torch.testing.assert_close(flat(seen.weighted_sum, 1), weights.T @ rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flat(seen.group_sums, 1), by_group, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.outer, by_group.T @ by_group, rtol=1e-3, atol=1e-5)
    assert [record.quantity for record in seen.history] == SUMS
    assert seen.history[0].summary["norm"] == pytest.approx(float((weights.T @ rows).norm()), rel=1e-4)
    assert seen.history[2].summary["trace"] == pytest.approx(float(by_group.square().sum()), rel=1e-4)


def test_sums_of_a_step_of_two_backward_passes_add_up(small):
    rows, n = rows_of(small), len(small.batch[0])
    half = n // 2
    weights = torch.arange(1.0, n + 1)
    parts = [slice(0, half), slice(half, n)]
    now = iter([weights[part] for part in parts])
    groups = iter([[0] * half, [1] * (n - half)])
    of_groups = {"groups": lambda: next(groups), "count": 2}
    wanted = {"weighted_sum": {"weights": lambda: next(now)}, "group_sums": of_groups, "outer": {}}
    with gk.watch(small.model, wanted) as seen:
        for part in parts:
            small.loss(small.model, *(one[part] for one in small.batch)).backward()
        seen.step()
    torch.testing.assert_close(flat(seen.weighted_sum, 0), weights @ rows, rtol=1e-4, atol=1e-5)
    by_group = torch.stack([rows[part].sum(0) for part in parts])
    torch.testing.assert_close(flat(seen.group_sums, 1), by_group, rtol=1e-4, atol=1e-5)
    with pytest.raises(gk.CannotWatch, match="outer of a step of several backward passes"):
        seen.outer  # noqa: B018


def test_an_empty_batch_has_sums_of_zeros(small):
    wanted = {"weighted_sum": {"weights": []}, "group_sums": {"groups": [], "count": 2}, "outer": {}}
    with gk.watch(small.model, wanted, reduction="sum") as seen:
        small.loss(small.model, *(one[:0] for one in small.batch)).nan_to_num().backward()
    assert not flat(seen.weighted_sum, 0).any()
    assert flat(seen.group_sums, 1).shape[0] == 2
    assert not seen.outer.any()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("weighted_sum", "weighted_sum needs weights, the weights of the batch's samples"),
        ({"group_sums": {"groups": [0]}}, "group_sums needs count, how many groups there are"),
        ({"outer": {"count": 3}}, "outer has no option 'count'; it has groups"),
    ],
)
def test_options_that_are_missing_or_unknown_are_named(small, wanted, says):
    with pytest.raises(ValueError, match=says):
        gk.watch(small.model, wanted)


def test_weights_that_do_not_fit_the_batch_are_refused(small):
    with gk.watch(small.model, {"weighted_sum": {"weights": [1.0, 2.0]}}):
        loss = small.loss(small.model, *small.batch)
        with pytest.raises(ValueError, match=r"weights is \(2,\)"):
            loss.backward()


def batch_with_a_broken_sample():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    x[2, 1] = torch.inf
    return model, x, y


@pytest.mark.parametrize("by", [None, "parameter"])
def test_samples_that_are_not_finite_are_dropped_from_the_clipped_sum(by):
    model, x, y = batch_with_a_broken_sample()
    kept, expected = [0, 1, 3, 4, 5], torch.zeros(sum(one.numel() for one in model.parameters()))
    for i in kept:
        model.zero_grad()
        functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        whole = flat_gradient(model)
        parts = [one.grad.flatten() for one in model.parameters()] if by else [whole]
        expected += torch.cat([one * (0.1 / one.norm()).clamp(max=1) for one in parts])
    model.zero_grad()
    with gk.watch(model, reduction="mean") as seen:
        functional.cross_entropy(model(x), y).backward()
        seen.clip(max_norm=0.1, by=by, nonfinite="drop")
    torch.testing.assert_close(flat_gradient(model), expected, rtol=1e-4, atol=1e-6)


def test_samples_that_are_not_finite_spoil_the_sum_unless_they_are_dropped():
    model, x, y = batch_with_a_broken_sample()
    with gk.watch(model) as seen:
        functional.cross_entropy(model(x), y).backward()
        seen.clip(max_norm=0.1)
    assert flat_gradient(model).isnan().any()


def test_a_finite_gradient_whose_square_is_not_is_never_dropped():
    model = nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, 2.0], [1e25, 0.0]])
    with gk.watch(model, reduction="sum") as seen:
        model(x).sum().backward()
        with pytest.raises(gk.CannotWatch, match="left the range"):
            seen.clip(max_norm=1.0, nonfinite="drop")


def test_an_unknown_word_for_what_is_not_finite_is_refused(small):
    with gk.watch(small.model) as seen, pytest.raises(ValueError, match="nonfinite"):
        seen.clip(nonfinite="ignore")
