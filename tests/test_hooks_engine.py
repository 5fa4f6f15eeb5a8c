"""The parts of the hooks' engine: where samples are, what a pass calls, which way is fastest, what is filled."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradkernels.hooks import measured
from gradkernels.hooks.axis import Axis, axis_of
from gradkernels.hooks.calls import bound, leaves, replaced
from gradkernels.hooks.draws import once
from gradkernels.hooks.filled import Filled
from gradkernels.hooks.opened import OPENED
from gradkernels.hooks.order import numbers, order_of
from gradkernels.hooks.unfit import Unfit, probe
from gradkernels.hooks.use import Target
from gradkernels.problems.module import ModuleProblem

# Six entries of three steps t and two samples s, and nine of three samples, each 10 t + s.
SLOWEST = torch.tensor([0, 10, 20, 1, 11, 21]), torch.tensor([0, 10, 20, 1, 11, 21, 2, 12, 22])
FASTEST = torch.tensor([0, 1, 10, 11, 20, 21]), torch.tensor([0, 1, 2, 10, 11, 12, 20, 21, 22])


def test_the_axis_that_grows_is_the_samples():
    assert axis_of(torch.ones(2, 5), torch.ones(3, 5)) == Axis(0)
    assert axis_of(torch.ones(5, 4, 2), torch.ones(5, 4, 3)) == Axis(2)
    assert axis_of(torch.ones(2, 2, 2), torch.ones(2, 3, 2)) == Axis(1)
    assert axis_of(torch.ones(2, 3), torch.ones(2, 3)) is None


def test_a_merged_axis_has_an_order():
    assert axis_of(*SLOWEST) == Axis(0, 3, slowest=True)
    assert axis_of(*FASTEST) == Axis(0, 3, slowest=False)
    assert axis_of(*(one.float()[None, :, None] for one in FASTEST)) == Axis(1, 3, slowest=False)


def test_an_order_that_entries_do_not_tell_is_not_sure():
    assert not axis_of(torch.ones(6), torch.ones(9)).sure
    assert not axis_of(torch.arange(6.0), torch.arange(9.0).flip(0)).sure
    assert axis_of(torch.ones(6), torch.ones(9), lambda dim, inner: False) == Axis(0, 3, slowest=False)
    assert axis_of(*SLOWEST).sure


@pytest.mark.parametrize(
    ("few", "more", "message"),
    [
        ((2, 2), (3, 3), "a tensor is (2, 2) for 2 samples and (3, 3) for 3"),
        ((3,), (4,), "a tensor is (3,) for 2 samples and (4,) for 3"),
        ((2, 1), (3,), "a tensor has 2 axes for 2 samples and 1 for 3"),
    ],
)
def test_an_axis_that_cannot_be_told_is_refused(few, more, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        axis_of(torch.ones(few), torch.ones(more))


def test_samples_are_taken_to_the_front():
    tensor = torch.arange(12).view(3, 4)
    assert Axis(1).first(tensor, 4).tolist() == tensor.T.tolist()
    assert Axis(0, 3).first(SLOWEST[0], 2).tolist() == [[0, 10, 20], [1, 11, 21]]
    assert Axis(0, 3, slowest=False).first(FASTEST[0], 2).tolist() == [[0, 10, 20], [1, 11, 21]]
    assert Axis(1, 3, slowest=False).first(FASTEST[0][None], 2).tolist() == [[[0, 10, 20]], [[1, 11, 21]]]


def test_a_sample_alone_is_a_batch_of_one():
    assert Axis(1).one(torch.ones(3, 5)).shape == (3, 1, 5)
    assert Axis(1, 4).one(torch.ones(3, 4, 5)).shape == (3, 4, 5)


def test_samples_are_numbered_along_their_axis():
    assert numbers(torch.zeros(6, 1), Axis(0, 3)).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert numbers(torch.zeros(6, 1), Axis(0, 3, slowest=False)).flatten().tolist() == [0, 1, 0, 1, 0, 1]
    assert numbers(torch.zeros(2, 2), Axis(1)).tolist() == [[0, 1], [0, 1]]


def test_the_order_of_a_merged_axis_is_found_by_numbers():
    def order(function, shape, dim, inner=3):
        data = {("args", 0): Axis(shape.index(2))}
        return order_of(function, {"args": (torch.zeros(shape),), "kwargs": {}}, data, 0, Axis(dim, inner))

    assert order(lambda x: x.flatten(0, 1), (2, 3, 4), 0) is True
    assert order(lambda x: x.flatten(0, 1), (3, 2, 4), 0) is False
    assert order(lambda x: x.transpose(0, 1).flatten(0, 1), (3, 2, 4), 0) is True
    assert order(lambda x: x.transpose(1, 2).flatten(1, 2), (4, 2, 3), 1) is False
    assert order(lambda x: x.flatten(0, 1) + 1, (2, 3, 4), 0) is None


def test_arguments_are_found_and_replaced_by_their_place():
    arguments = {"args": (1, [2, (3, "x")]), "kwargs": {"at": {"here": 4}}}
    places = {
        ("args", 0): 1,
        ("args", 1, 0): 2,
        ("args", 1, 1, 0): 3,
        ("args", 1, 1, 1): "x",
        ("kwargs", "at", "here"): 4,
    }
    assert dict(leaves(arguments)) == places
    other = replaced(arguments, {("args", 1, 1, 0): 30, ("kwargs", "at", "here"): 40})
    assert other == {"args": (1, [2, (30, "x")]), "kwargs": {"at": {"here": 40}}}
    assert arguments["kwargs"]["at"]["here"] == 4
    assert bound(("input", "weight", "bias"), (1, 2), {"bias": 3}) == {"input": 1, "weight": 2, "bias": 3}


class Model(nn.Module):
    """A few calls of every kind."""

    def __init__(self):
        super().__init__()
        self.weight, self.token = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(1, 4))

    def forward(self, x):
        x = x + self.token.expand(len(x), -1)
        return functional.linear(torch.tanh(x), self.weight.mul(2))


def steps_of(model, x, **settings):
    problem = ModuleProblem(model, nn.CrossEntropyLoss(), **settings)
    return {step.function: step for step in probe(problem, problem.own(), x)}


def test_a_pass_is_read_call_by_call():
    steps = steps_of(Model(), torch.ones(1, 4))
    assert list(steps) == [
        torch.Tensor.__len__,
        torch.Tensor.expand,
        torch.Tensor.add,
        torch.tanh,
        torch.Tensor.mul,
        functional.linear,
    ]
    expand, linear = steps[torch.Tensor.expand], steps[functional.linear]
    assert expand.boundary
    assert expand.parameters == {("args", 0): ("token",)}
    assert expand.sized == {("args", 1): 1}
    assert linear.boundary
    assert linear.data == {("args", 0): Axis(0)}
    assert linear.parameters == {("args", 1): ("weight",)}
    assert linear.output == Axis(0)
    assert not steps[torch.tanh].boundary
    assert not steps[torch.Tensor.mul].boundary
    assert steps[torch.Tensor.mul].parameters == {("args", 0): ("weight",)}


class First(nn.Module):
    """A sequence of as many steps as samples, time first."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).transpose(0, 1).sum(1)


@pytest.mark.parametrize("steps", [2, 3])
def test_samples_are_found_by_running_the_model_not_by_their_number(steps):
    step = steps_of(First(), torch.ones(3, steps, 2))[functional.linear]
    assert step.data == {("args", 0): Axis(1)}
    assert step.output == Axis(1)


def test_calls_that_draw_are_noticed_where_one_draw_is_for_all():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    assert steps_of(model, torch.ones(1, 4), randomness="same")[functional.dropout].draws
    assert not steps_of(model, torch.ones(1, 4), randomness="different")[functional.dropout].draws
    assert not steps_of(model.eval(), torch.ones(1, 4), randomness="same")[functional.dropout].draws


def test_attention_is_read_as_its_parts():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    steps = steps_of(Attention(), torch.ones(1, 3, 4))
    assert functional.linear in steps
    assert functional.scaled_dot_product_attention in steps
    assert OPENED.keys().isdisjoint(steps)


def test_a_function_that_is_one_call_cannot_be_opened():
    from gradkernels.hooks.opened import _body

    with pytest.raises(ImportError, match="relu_ignored of this torch is not made of other functions"):
        _body(relu_ignored)


def relu_ignored(x):
    return x


@pytest.fixture
def no_choices(monkeypatch):
    monkeypatch.setattr(measured, "_CHOSEN", {})


@pytest.mark.usefixtures("no_choices")
def test_the_fastest_way_is_measured_once(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(measured, "perf_counter", lambda: next(clock))
    called = []

    def slow():
        called.append("slow")
        next(clock)  # takes one second more than what only looks at the clock
        return "slow"

    ways = {"slow": slow, "quick": lambda: called.append("quick") or "quick"}
    assert measured.fastest_of("key", ways) == "quick"
    assert called.count("slow") == measured.TRIES
    before = len(called)
    assert measured.fastest_of("key", ways) == "quick"
    assert called[before:] == ["quick"]


@pytest.mark.usefixtures("no_choices")
def test_what_is_far_behind_gets_no_second_try_and_all_are_timed_on_less(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(measured, "perf_counter", lambda: clock[0])
    called = []

    def way(name, seconds, samples):
        called.append((name, samples))
        clock[0] += seconds
        return name

    ways = {
        "quick": partial(way, "quick", 1),
        "hopeless": partial(way, "hopeless", 5),
        "behind": partial(way, "behind", 3),
    }
    assert measured.fastest_of("key", ways, (100,), (16,)) == "quick"
    assert called == [("quick", 16)] * 3 + [("hopeless", 16)] + [("behind", 16)] * 3 + [("quick", 100)]


@pytest.mark.usefixtures("no_choices")
def test_one_way_is_not_measured():
    assert measured.fastest_of("key", {"only": lambda: 3}) == 3
    assert measured._CHOSEN == {}


def test_one_draw_serves_every_sample():
    torch.manual_seed(0)
    drop = lambda one: torch.dropout(one, 0.5, True)  # noqa: E731
    dropped = once(drop, torch.ones(5, 20), Axis(0), 5)
    assert (dropped == dropped[:1]).all()
    assert set(dropped[0].tolist()) == {0.0, 2.0}
    merged = once(drop, torch.ones(3 * 4, 6), Axis(0, 4, slowest=False), 3).view(4, 3, 6)
    assert (merged == merged[:, :1]).all()
    assert not (merged == merged[:1]).all()
    x = torch.ones(4, 5)
    assert once(drop, x, Axis(1), 5, inplace=True) is x


def target(tensor, start=None):
    block = None if start is None else range(start, start + tensor.numel())
    return Target(tensor, ("weight",), direct=False, block=block)


def test_blocks_are_written_side_by_side_and_added_where_they_overlap():
    out = torch.full((2, 4, 3), 9.0)
    filled = Filled({"weight": out})
    for start, size, value, adds in ((3, 1, 1.0, False), (9, 1, 2.0, False), (3, 2, 10.0, True)):
        rows, add = filled.place(target(torch.zeros(size, 3), start))
        assert rows.shape == (2, size, 3)
        assert add is adds
        rows.copy_(rows + value if add else torch.full_like(rows, value))
    filled.finish()
    assert out[:, :, 0].tolist() == [[0.0, 11.0, 10.0, 2.0]] * 2
    assert (out == out[:, :, :1]).all()


def test_rows_from_somewhere_else_are_added_to_blocks():
    out = torch.full((1, 2, 2), 9.0)
    filled = Filled({"weight": out})
    filled.place(target(torch.zeros(1, 2), 2))[0].fill_(1.0)
    filled.add("weight", torch.ones(1, 2, 2))
    assert filled.finish()["weight"].tolist() == [[[1.0, 1.0], [2.0, 2.0]]]


def test_what_is_never_used_is_zero():
    filled = Filled({"weight": torch.full((2, 3), 9.0)})
    assert filled.finish()["weight"].tolist() == [[0.0] * 3] * 2


def test_a_block_of_memory_with_gaps_is_not_written_in_place():
    filled = Filled({"weight": torch.zeros(2, 3, 4).transpose(1, 2)})
    assert not filled.takes(target(torch.zeros(2, 3), 0))
    assert not filled.takes(target(torch.zeros(2, 3)))
    assert filled.takes(Target(torch.zeros(4, 3), ("weight",), direct=True, block=range(12)))


def test_unfit_is_a_value_error():
    assert issubclass(Unfit, ValueError)


def test_chunks_draw_one_after_the_other():
    """Dropout of an input of ones: each sample its own mask, also across chunks, and the same at every call."""
    import gradkernels as gk

    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(40, 1, bias=False)).train()
    problem = gk.ModuleProblem(model, torch.nn.MSELoss(), randomness="different", seed=3)
    x, y = torch.ones(6, 40), torch.full((6, 1), 100.0)
    before = torch.get_rng_state()
    masks = [gk.per_sample(problem, None, x, y, kernel="torch.hooks[chunk=2]")["1.weight"] != 0 for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*masks)
    assert len({tuple(mask.flatten().tolist()) for mask in masks[0]}) == 6
