"""`seen.clip` where a plain backward pass and a clipped sum in its place could go apart without a word."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from watched import Watched, cross_entropy, flat_gradient, rows_of

import gradkernels as gk


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return Watched(model, cross_entropy, (torch.randn(8, 5).double(), torch.arange(8) % 3))


@pytest.fixture
def clipped(small):
    """The clipped sum of `small` with a length of 0.3, flat, by single samples."""
    rows = rows_of(small)
    return (0.3 / rows.norm(dim=1)).clamp(max=1) @ rows


def close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-10)


class Heads(nn.Module):
    """Two heads, of which one is used at a time."""

    def __init__(self):
        super().__init__()
        self.body, self.heads, self.at = nn.Linear(5, 6), nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 3)]), 0

    def forward(self, x):
        return self.heads[self.at](torch.tanh(self.body(x)))


def test_a_parameter_without_a_part_in_a_backward_pass_keeps_what_was_there():
    torch.manual_seed(0)
    watched = Watched(Heads().double(), cross_entropy, (torch.randn(8, 5).double(), torch.arange(8) % 3))
    model, batch = watched.model, watched.batch
    expected = 0
    for model.at in (0, 1):
        rows = rows_of(watched)
        expected = expected + (0.3 / rows.norm(dim=1)).clamp(max=1) @ rows
    model.zero_grad()
    with gk.watch(model) as seen:
        seen.clip(max_norm=0.3)
        for model.at in (0, 1):
            cross_entropy(model, *batch).backward()
    close(flat_gradient(model), expected)


def test_groups_that_leave_a_parameter_out_are_refused(small):
    with gk.watch(small.model) as seen:
        cross_entropy(small.model, *small.batch).backward()
        with pytest.raises(gk.CannotWatch, match=r"no group for 2\.weight, 2\.bias, whose \.grad would stay"):
            seen.clip(max_norm=0.3, by={"first": ["0.*"]})


def test_hooks_that_take_grad_first_are_refused(small):
    handle = small.model[0].weight.register_post_accumulate_grad_hook(lambda one: None)
    with gk.watch(small.model) as seen:
        cross_entropy(small.model, *small.batch).backward()
        with pytest.raises(gk.CannotWatch, match=r"0\.weight has a hook \(register_post_accumulate_grad_hook\)"):
            seen.clip(max_norm=0.3)
        handle.remove()
        seen.clip(max_norm=0.3)


@pytest.mark.parametrize("way", ["before the loop", "after backward", "after unscale_"])
def test_a_grad_scaler_takes_its_scale_off_clipped_sums_once(small, clipped, way):
    model = small.model.float()
    optimizer, scaler = torch.optim.SGD(model.parameters(), 1.0), torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = torch.cat([one.detach().flatten() for one in model.parameters()])
    with gk.watch(model, scale=scaler) as seen:
        if way == "before the loop":
            seen.clip(max_norm=0.3)
        x, y = small.batch
        scaler.scale(cross_entropy(model, x.float(), y)).backward()
        if way == "after unscale_":
            scaler.unscale_(optimizer)
        if way != "before the loop":
            seen.clip(max_norm=0.3)
        scaler.step(optimizer)
    after = torch.cat([one.detach().flatten() for one in model.parameters()])
    torch.testing.assert_close(before - after, clipped.float(), rtol=1e-4, atol=1e-5)


def test_samples_whose_squared_norms_overflow_are_not_left_out_of_the_sum():
    model, x = nn.Linear(2, 1, bias=False), torch.ones(3, 2)
    x[1] = 1e25
    with gk.watch(model) as seen:
        model(x).mean().backward()
        with pytest.raises(gk.CannotWatch, match="left the range of their dtype"):
            seen.clip(max_norm=0.3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rule": lambda norms: norms[:3]}, r"rule returned \(3,\)"),
        ({"rule": lambda norms: norms * torch.nan}, "weights must be finite"),
        ({"rule": "automatic", "gamma": 0}, "gamma is 0"),
        ({"rule": "automatic", "max_norm": float("inf")}, "give it a finite length"),
        ({"max_norm": {"a": 1.0}, "by": {"b": ["*"]}}, "max_norm lacks b"),
    ],
)
def test_options_are_looked_at_as_those_of_clipped_sum(small, options, says):
    with gk.watch(small.model) as seen:
        cross_entropy(small.model, *small.batch).backward()
        with pytest.raises(ValueError, match=says):
            seen.clip(**options)


def test_a_backward_pass_that_starts_with_another_number_than_one_is_refused(small):
    x, y = small.batch
    with gk.watch(small.model) as seen:
        with pytest.raises(gk.CannotWatch, match="gradient=: pass scale="):
            functional.cross_entropy(small.model(x), y).backward(torch.tensor(4.0).double())
        functional.cross_entropy(small.model(x), y).backward(torch.tensor(1.0).double())
        close(seen.norms, rows_of(small).norm(dim=1))


def test_one_mean_over_several_forward_passes_is_refused(small):
    x, y = small.batch
    with gk.watch(small.model, passes="more") as seen:
        with pytest.raises(gk.CannotWatch, match="one mean over what several forward passes"):
            functional.cross_entropy(torch.cat([small.model(x[:3]), small.model(x[3:])]), y).backward()
        (cross_entropy(small.model, x[:3], y[:3]) + cross_entropy(small.model, x[3:], y[3:])).backward()
        close(seen.norms, rows_of(small).norm(dim=1))


def test_a_parameter_of_a_group_that_is_trained_no_more_is_named(small):
    with gk.watch(small.model, {"norms": {"by": "parameter"}}):
        small.model[0].bias.requires_grad_(False)
        with pytest.raises(gk.CannotWatch, match=r"0\.bias was a trained parameter"):
            cross_entropy(small.model, *small.batch).backward()


def test_sums_are_clipped_under_autocast(small, clipped):
    model, (x, y) = small.model.float(), small.batch
    with gk.watch(model) as seen:
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model, x.float(), y)
        loss.backward()
        seen.clip(max_norm=0.3)
    torch.testing.assert_close(flat_gradient(model), clipped.float(), rtol=0.02, atol=0.02)


def around_call(model, x):
    """The model's output by its parts, of whose call no watch hears."""
    return model[2](model[1](model[0](x)))


def by_forward(model, x):
    return model.forward(x)


@pytest.mark.parametrize("output", [around_call, by_forward])
@pytest.mark.parametrize("when", ["before the loop", "after backward", "after a step"])
def test_a_backward_pass_that_no_watched_call_leads_to_is_an_error_and_no_unclipped_step(small, output, when):
    model, (x, y) = small.model, small.batch
    with gk.watch(model) as seen:
        if when == "before the loop":
            seen.clip(max_norm=0.3)
        if when == "after a step":
            cross_entropy(model, x, y).backward()
            seen.clip(max_norm=0.3)
            model.zero_grad()

        def step():
            functional.cross_entropy(output(model, x), y).backward()
            seen.clip(max_norm=0.3)

        with pytest.raises(gk.CannotWatch, match=r"\.grad holds what a backward pass has left there without a call"):
            step()
    functional.cross_entropy(output(model, x), y).backward()  # the watch is over


def test_what_an_earlier_loop_left_in_grad_is_no_fault_of_this_one(small, clipped):
    functional.cross_entropy(around_call(small.model, small.batch[0]), small.batch[1]).backward()
    with gk.watch(small.model) as seen:
        seen.clip(max_norm=0.3)
        small.model.zero_grad()
        cross_entropy(small.model, *small.batch).backward()
    close(flat_gradient(small.model), clipped)


def test_the_gradient_of_a_penalty_is_added_to_clipped_sums(small, clipped):
    parameters = [*small.model.parameters()]
    with gk.watch(small.model) as seen:
        seen.clip(max_norm=0.3)
        cross_entropy(small.model, *small.batch).backward()
        added = torch.autograd.grad(sum(one.square().sum() for one in parameters), parameters)
        for one, more in zip(parameters, added, strict=True):
            one.grad += more
    close(flat_gradient(small.model), clipped + 2 * torch.cat([one.detach().flatten() for one in parameters]))


def test_clipping_once_and_looking_on_is_no_unseen_pass(small):
    with gk.watch(small.model) as seen:
        for at in range(4):
            small.model.zero_grad()
            cross_entropy(small.model, *small.batch).backward()
            if at == 0:
                seen.clip(max_norm=0.3)
    close(flat_gradient(small.model), rows_of(small).mean(0))


class Reentrant(nn.Module):
    """A part of it runs again in a backward pass within the backward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return checkpoint(self.second, torch.tanh(self.first(x)), use_reentrant=True)


def test_a_backward_pass_within_one_that_is_seen_is_seen(small):
    torch.manual_seed(0)
    model, batch = Reentrant().double(), small.batch
    samples = [(x[None], y[None]) for x, y in zip(*batch, strict=True)]
    rows = []
    for x, y in samples:
        model.zero_grad()
        cross_entropy(model, x, y).backward()
        rows.append(flat_gradient(model))
    rows = torch.stack(rows)
    model.zero_grad()
    with gk.watch(model) as seen:
        seen.clip(max_norm=0.3)
        cross_entropy(model, *batch).backward()
    close(flat_gradient(model), (0.3 / rows.norm(dim=1)).clamp(max=1) @ rows)


class Boxed(nn.Module):
    """A model whose output nobody can look into."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 3)

    def forward(self, x):
        return SimpleNamespace(scores=self.inner(x))


def test_an_output_in_which_no_tensor_is_found_is_refused(small):
    model = Boxed().double()
    with gk.watch(model), pytest.raises(gk.CannotWatch, match="holds a SimpleNamespace, in which no tensor is found"):
        model(small.batch[0])
