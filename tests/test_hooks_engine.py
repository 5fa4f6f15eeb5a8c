"""The parts of the hooks' engine: where samples are, what a pass calls, which way is fastest, what is filled."""

from functools import partial

import pytest
import torch

from gradkernels.engines.hooks.accumulate.row_memory import RowMemory
from gradkernels.engines.hooks.arguments import bind_by_name, replace_arguments, walk_arguments
from gradkernels.engines.hooks.capture.one_draw import multiply_by_one_draw
from gradkernels.engines.hooks.capture.sample_axis import Axis, axis_after_reshape
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterTensor
from gradkernels.engines.hooks.rules import autotune

# Six entries of three steps t and two samples s, each 10 t + s.
SLOWEST, FASTEST = torch.tensor([0, 10, 20, 1, 11, 21]), torch.tensor([0, 1, 10, 11, 20, 21])


def test_samples_are_taken_to_the_front():
    tensor = torch.arange(12).view(3, 4)
    assert Axis(1).first(tensor, 4).tolist() == tensor.T.tolist()
    assert Axis(0, 3).first(SLOWEST, 2).tolist() == [[0, 10, 20], [1, 11, 21]]
    assert Axis(0, 3, slowest=False).first(FASTEST, 2).tolist() == [[0, 10, 20], [1, 11, 21]]
    assert Axis(1, 3, slowest=False).first(FASTEST[None], 2).tolist() == [[[0, 10, 20]], [[1, 11, 21]]]


def test_a_sample_alone_is_a_batch_of_one():
    assert Axis(1).one(torch.ones(3, 5)).shape == (3, 1, 5)
    assert Axis(1, 4).one(torch.ones(3, 4, 5)).shape == (3, 4, 5)


def test_samples_are_numbered_along_their_axis():
    def numbers(axis, *shape):
        return axis.numbers(shape, 2, torch.device("cpu")).flatten().tolist()

    assert numbers(Axis(0, 3), 6, 1) == [0, 0, 0, 1, 1, 1]
    assert numbers(Axis(0, 3, slowest=False), 6, 1) == [0, 1, 0, 1, 0, 1]
    assert numbers(Axis(1), 2, 2) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("axis", "old", "new", "found"),
    [
        (Axis(0), (2, 3, 4), (6, 4), Axis(0, 3)),
        (Axis(1), (3, 2, 4), (6, 4), Axis(0, 3, slowest=False)),
        (Axis(0, 3), (6, 4), (2, 3, 4), Axis(0)),
        (Axis(0, 3, slowest=False), (6, 4), (3, 2, 4), Axis(1)),
        (Axis(1), (4, 2, 3), (4, 6), Axis(1, 3)),
        (Axis(0), (2, 4), (2, 2, 2), Axis(0)),
        (Axis(1), (3, 2, 4), (24,), None),  # between two others
        (Axis(0), (4, 3), (2, 2, 3), None),  # over two axes
    ],
)
def test_a_reshape_moves_the_samples(axis, old, new, found):
    assert axis_after_reshape(axis, old, new, old[axis.dim] // axis.inner) == found


def test_arguments_are_found_and_replaced_by_their_place():
    arguments = {"args": (1, [2, (3, "x")]), "kwargs": {"at": {"here": 4}}}
    places = {
        ("args", 0): 1,
        ("args", 1, 0): 2,
        ("args", 1, 1, 0): 3,
        ("args", 1, 1, 1): "x",
        ("kwargs", "at", "here"): 4,
    }
    assert dict(walk_arguments(arguments)) == places
    other = replace_arguments(arguments, {("args", 1, 1, 0): 30, ("kwargs", "at", "here"): 40})
    assert other == {"args": (1, [2, (30, "x")]), "kwargs": {"at": {"here": 40}}}
    assert arguments["kwargs"]["at"]["here"] == 4
    assert bind_by_name(("input", "weight", "bias"), (1, 2), {"bias": 3}) == {"input": 1, "weight": 2, "bias": 3}


def test_a_function_that_is_one_call_cannot_be_opened():
    from gradkernels.engines.hooks.capture.composite_functions import _body

    with pytest.raises(ImportError, match="relu_ignored of this torch is not made of other functions"):
        _body(relu_ignored)


def relu_ignored(x):
    return x


@pytest.fixture
def no_choices(monkeypatch):
    monkeypatch.setattr(autotune, "_CHOSEN", {})


@pytest.mark.usefixtures("no_choices")
def test_the_fastest_way_is_measured_once(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(autotune, "perf_counter", lambda: next(clock))
    called = []

    def slow():
        called.append("slow")
        next(clock)  # takes one second more than what only looks at the clock
        return "slow"

    ways = {"slow": slow, "quick": lambda: called.append("quick") or "quick"}
    assert autotune.fastest_of("key", ways) == "quick"
    assert called.count("slow") == 3
    before = len(called)
    assert autotune.fastest_of("key", ways) == "quick"
    assert called[before:] == ["quick"]


@pytest.mark.usefixtures("no_choices")
def test_what_is_far_behind_gets_no_second_try_and_all_are_timed_on_less(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(autotune, "perf_counter", lambda: clock[0])
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
    assert autotune.fastest_of("key", ways, (100,), (16,)) == "quick"
    first, again = [("quick", 16), ("hopeless", 16), ("behind", 16)], [("quick", 16), ("behind", 16)]
    assert called == [*first, *again, *again, ("quick", 100)]


@pytest.mark.usefixtures("no_choices")
def test_ways_that_take_no_time_are_tried_in_turns_until_noise_has_no_part_in_the_choice(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(autotune, "perf_counter", lambda: clock[0])
    noise = {"quick": iter([3e-6] * 8 + [0.0] * 9), "slow": iter([1e-6] * 17)}

    def way(name, seconds):
        clock[0] += seconds + next(noise[name])
        return name

    assert (
        autotune.fastest_of("key", {"slow": partial(way, "slow", 2e-6), "quick": partial(way, "quick", 1e-6)})
        == "quick"
    )


@pytest.mark.usefixtures("no_choices")
def test_one_way_is_not_measured():
    assert autotune.fastest_of("key", {"only": lambda: 3}) == 3
    assert autotune._CHOSEN == {}


def test_one_draw_serves_every_sample():
    torch.manual_seed(0)
    drop = lambda one: torch.dropout(one, 0.5, True)  # noqa: E731
    dropped = multiply_by_one_draw(drop, torch.ones(5, 20), Axis(0), 5)
    assert (dropped == dropped[:1]).all()
    assert set(dropped[0].tolist()) == {0.0, 2.0}
    merged = multiply_by_one_draw(drop, torch.ones(3 * 4, 6), Axis(0, 4, slowest=False), 3).view(4, 3, 6)
    assert (merged == merged[:, :1]).all()
    assert not (merged == merged[:1]).all()
    x = torch.ones(4, 5)
    assert multiply_by_one_draw(drop, x, Axis(1), 5, inplace=True) is x


def target(tensor, start=None):
    block = None if start is None else range(start, start + tensor.numel())
    return ParameterTensor(tensor, ("weight",), direct=False, block=block)


def test_blocks_are_written_side_by_side_and_added_where_they_overlap():
    out = torch.full((2, 4, 3), 9.0)
    filled = RowMemory({"weight": out})
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
    filled = RowMemory({"weight": out})
    filled.place(target(torch.zeros(1, 2), 2))[0].fill_(1.0)
    rows, add = filled.whole("weight")
    assert add
    rows += torch.ones(1, 2, 2)
    assert filled.finish()["weight"].tolist() == [[[1.0, 1.0], [2.0, 2.0]]]
    alone = RowMemory({"weight": torch.full((1, 2), 9.0)})
    rows, add = alone.whole("weight")
    assert not add
    rows.fill_(3.0)
    assert alone.whole("weight")[1]
    assert alone.finish()["weight"].tolist() == [[3.0, 3.0]]


def test_what_is_never_used_is_zero():
    filled = RowMemory({"weight": torch.full((2, 3), 9.0)})
    assert filled.finish()["weight"].tolist() == [[0.0] * 3] * 2


def test_a_block_of_memory_with_gaps_is_not_written_in_place():
    filled = RowMemory({"weight": torch.zeros(2, 3, 4).transpose(1, 2)})
    assert not filled.takes(target(torch.zeros(2, 3), 0))
    assert not filled.takes(target(torch.zeros(2, 3)))
    assert filled.takes(ParameterTensor(torch.zeros(4, 3), ("weight",), direct=True, block=range(12)))


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
