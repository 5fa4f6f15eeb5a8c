"""Memory for results is refused where two entries are one place, and only there: held against counting the places."""

import random
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.memory.overlap import overlap, overlapping, overlaps_itself


def places(tensor):
    """Every byte address of a tensor's entries, one by one."""
    found = [tensor.data_ptr()]
    for size, step in zip(tensor.shape, tensor.stride(), strict=True):
        found = [place + i * step * tensor.element_size() for place in found for i in range(size)]
    return found


def shared(one, other):
    return bool({*places(one)} & {*places(other)})


def drawn(rng, whole):
    """A view of some of a matrix: columns, rows, every other entry, blocks across the end of its rows."""
    kind = rng.choice(["columns", "rows", "steps", "flat", "block", "across", "transposed", "empty"])
    n, width = whole.shape
    a, b = sorted(rng.sample(range(width + 1), 2))
    c, d = sorted(rng.sample(range(n + 1), 2))
    return {
        "columns": lambda: whole[:, a:b],
        "rows": lambda: whole[c:d],
        "steps": lambda: whole[:, a :: rng.randint(1, 3)],
        "flat": lambda: whole.view(-1)[a * n : b * n],
        "block": lambda: whole[:, : width // 2 * 2].unflatten(1, (2, -1))[:, :, a // 2 :],
        "across": lambda: whole.view(-1).as_strided((n - 1, 3), (width, 1), rng.randint(0, width - 1)),
        "transposed": lambda: whole.T[a:b],
        "empty": lambda: whole[:, a:a],
    }[kind]()


@pytest.mark.parametrize("seed", range(40))
def test_what_shares_an_entry_is_found_whatever_the_strides(seed):
    rng = random.Random(seed)
    for _ in range(25):
        whole, other = torch.empty(5, 12), torch.empty(5, 12)
        count = rng.randint(1, 5)
        parts = [drawn(rng, rng.choice([whole, whole, other])) for _ in range(count)]
        others = [drawn(rng, rng.choice([whole, other, torch.empty(5, 12)])) for _ in range(rng.randint(0, 3))]
        pairs = {pair for pair in combinations(range(count), 2) if shared(parts[pair[0]], parts[pair[1]])}
        with_others = {i for i in range(count) if any(shared(parts[i], one) for one in others)}
        found = overlapping(parts, others)
        if pairs:
            assert found in pairs
        elif with_others:
            assert found[0] in with_others
            assert found[1] is None
        else:
            assert found is None
        for one, two in combinations([*parts, *others], 2):
            assert overlap(one, two) is shared(one, two)


def test_what_lies_between_the_entries_of_others_hides_nothing():
    flat = torch.empty(60)
    spread = flat[::7]
    assert overlapping([spread, flat[8:10], flat[20:22]], []) == (0, 2)
    assert overlapping([spread, flat[8:10], flat[22:24]], []) is None
    assert overlapping([flat[14:16], flat[22:24], flat[50:52]], [spread]) == (0, None)
    assert overlapping([flat[15:16], flat[22:24], flat[50:52]], [spread]) is None


def test_blocks_of_columns_with_two_axes_in_front_are_told_apart():
    whole = torch.empty(40, 10, 57)  # samples, outputs and parameters
    blocks = [
        whole[..., a:b].view(40, 10, *shape) for a, b, shape in ((0, 32, (8, 4)), (32, 40, (8,)), (40, 57, (17,)))
    ]
    assert overlapping(blocks, [torch.empty(40, 10, 57)]) is None
    assert overlapping([blocks[0], whole[..., 31:40], blocks[2]], []) == (0, 1)
    assert overlapping(blocks, [whole[3, 4, 33:34]]) == (1, None)


def test_arrays_of_numpy_are_told_apart_the_same_way():
    whole = np.zeros((4, 6))
    assert overlapping([whole[:, :2], whole[:, 2:4]], [whole[:, 4:]]) is None
    assert overlapping([whole[:, :2], whole[:, 2:4]], [whole[:, 3:]]) == (1, None)
    assert overlapping([whole[:, :2], whole[:, 2:4], whole[3:, 1:2]], [whole[:, 5:]]) == (0, 2)


@pytest.mark.parametrize(
    ("view", "itself"),
    [
        (lambda a: a, False),
        (lambda a: a[:, 2:5], False),
        (lambda a: a.T, False),
        (lambda a: a[::2, ::3], False),
        (lambda a: a[:1].expand(5, 12), True),
        (lambda a: a[:, :1].expand(5, 12), True),
        (lambda a: a.as_strided((3, 3), (2, 1)), True),
        (lambda a: a.as_strided((3, 3), (3, 1)), False),
        (lambda a: a.as_strided((4, 2), (1, 4)), False),
        (lambda a: a.as_strided((1, 3), (0, 1)), False),
        (lambda a: a.as_strided((0, 3), (0, 0)), False),
    ],
)
def test_entries_of_one_array_that_are_one_place_are_found(view, itself):
    tensor = view(torch.empty(5, 12))
    assert (len({*places(tensor)}) < tensor.numel()) is itself
    assert overlaps_itself(tensor) is itself
    steps = tuple(4 * step for step in tensor.stride())
    assert overlaps_itself(np.lib.stride_tricks.as_strided(np.empty(60, "f4"), tensor.shape, steps)) is itself


LAYERS = 50


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    return gk.ModuleProblem(nn.Sequential(*[nn.Linear(3, 3) for _ in range(LAYERS)]), nn.MSELoss())


@pytest.fixture(scope="module")
def data():
    torch.manual_seed(1)
    return torch.randn(4, 3), torch.randn(4, 3)


def columns(problem, whole):
    """The layout of influence functions and random projections: all parameters side by side, a row for each sample."""
    sizes = [one.numel() for one in problem.parameters().values()]
    parts = zip(problem.parameters().items(), whole.split(sizes, 1), strict=True)
    return {name: part.unflatten(1, one.shape) for (name, one), part in parts}


@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap", "torch.loop"])
def test_a_hundred_parameters_are_written_side_by_side(problem, data, way):
    whole = torch.full((4, 12 * LAYERS), torch.nan)
    gk.per_sample(problem, None, *data, out=columns(problem, whole), kernel=way)
    expected = gk.per_sample(problem, None, *data, kernel="torch.loop")
    assert len(expected) == 2 * LAYERS
    torch.testing.assert_close(whole, torch.cat([one.flatten(1) for one in expected.values()], 1))


def test_one_column_too_many_among_hundreds_is_refused(problem, data):
    whole = torch.empty(4, 12 * LAYERS + 1)
    out = columns(problem, whole[:, :-1])
    out["7.weight"] = whole[:, 7 * 12 + 1 : 7 * 12 + 10].unflatten(1, (3, 3))
    with pytest.raises(ValueError, match=r"out\['7.weight'\] and out\['7.bias'\] share memory"):
        gk.per_sample(problem, None, *data, out=out)


def test_inputs_between_the_columns_are_no_obstacle_and_under_them_are_one(problem, data):
    whole = torch.zeros(4, 12 * LAYERS + 3)
    x, out = whole[:, -3:], columns(problem, whole[:, :-3])
    x.copy_(data[0])
    expected = gk.per_sample(problem, None, *data)
    torch.testing.assert_close(gk.per_sample(problem, None, x, data[1], out=out), expected)
    assert torch.equal(x, data[0])
    with pytest.raises(ValueError, match=r"out\['0.weight'\] shares memory with an input"):
        gk.per_sample(problem, None, whole[:, :3], data[1], out=out)
    with pytest.raises(ValueError, match=r"out\['49.bias'\] shares memory with an input"):
        gk.per_sample(problem, None, data[0], whole[:, -4:-1], out=out)


def test_memory_of_parameters_is_refused(problem, data):
    theta = {name: one.detach().clone() for name, one in problem.parameters().items()}
    out = columns(problem, torch.empty(4, 12 * LAYERS))
    rows = torch.empty(5, 3)
    theta["0.bias"], out["0.bias"] = rows[4], rows[:4]
    gk.per_sample(problem, theta, *data, out=out)
    theta["0.bias"] = rows[3].clone()
    theta["1.bias"] = rows[3]
    with pytest.raises(ValueError, match=r"out\['0.bias'\] shares memory with an input"):
        gk.per_sample(problem, theta, *data, out=out)


def test_memory_that_is_one_place_for_several_samples_is_refused(problem, data):
    out = columns(problem, torch.empty(4, 12 * LAYERS))
    out["3.bias"] = torch.empty(3).expand(4, 3)
    with pytest.raises(ValueError, match=r"several entries of out\['3.bias'\] share memory, as after expand"):
        gk.per_sample(problem, None, *data, out=out)
    p = gk.LinearRegression()
    theta, x, y = p.draw(5, seed=0)
    with pytest.raises(ValueError, match="several entries of out share memory"):
        gk.norms(p, theta, x, y, out=np.lib.stride_tricks.as_strided(np.empty(1), (5,), (0,)))


def test_each_parameter_is_written_in_its_own_dtype():
    torch.manual_seed(0)

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 2), nn.Linear(2, 1).double()

        def forward(self, x):
            return self.last(self.first(x).double())

    problem = gk.ModuleProblem(Mixed(), nn.MSELoss())
    x, y = torch.randn(4, 3), torch.randn(4, 1).double()
    out = {name: torch.empty((4, *one.shape), dtype=one.dtype) for name, one in problem.parameters().items()}
    found = gk.per_sample(problem, None, x, y, out=out)
    expected = gk.per_sample(problem, None, x, y, kernel="torch.loop")
    torch.testing.assert_close(found, expected)
    norms = torch.empty(4, dtype=torch.float64)
    torch.testing.assert_close(gk.norms(problem, None, x, y, out=norms), gk.norms(problem, None, x, y))
    out["last.bias"] = out["last.bias"].float()
    with pytest.raises(ValueError, match=r"out\['last.bias'\] is \(4, 1\) float32 on cpu; it must be \(4, 1\) float64"):
        gk.per_sample(problem, None, x, y, out=out)
