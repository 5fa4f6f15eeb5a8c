"""What people pass as x and y: constants, shared arguments, containers of any kind."""

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from models import oracle
from modules import seeded
from small_batch import LOSS, SHARED, WAYS, X, Y, close, plain
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils import _pytree as pytree

import gradkernels as gk
from gradkernels.engines.compiled.per_shape import per_shape
from gradkernels.problems.module.inputs import prepare, unfolded
from gradkernels.tree import Constant, count, leaves, take

# --- constants and shared arguments


class Graph(nn.Module):
    """A layer on features that an adjacency mixes, with options of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, adjacency, scale=1.0, flag=False, names=None, more=(), dtype=None):
        assert names in (None, ["a", "b"])
        assert not isinstance(scale, torch.Tensor)
        x = torch.tanh(x @ adjacency.to(x.dtype)) * scale
        for one in more:
            x = x + one
        return self.layer(-x if flag else x)


def mixed(x, scale=1.0, flag=False):
    return torch.tanh(x @ SHARED) * (-scale if flag else scale)


GIVEN = {
    "names": ({"x": X, "adjacency": SHARED}, ["adjacency"], mixed(X)),
    "positions": ((X, SHARED), [1], mixed(X)),
    "a number": ({"x": X, "adjacency": SHARED, "scale": 2.0}, "adjacency", mixed(X, 2.0)),
    "a flag": ((X, SHARED, 3, True), (1,), mixed(X, 3.0, True)),
    "None and strings": ({"x": X, "adjacency": SHARED, "names": ["a", "b"], "dtype": None}, ["adjacency"], mixed(X)),
    "a list of tensors": ({"x": X, "adjacency": SHARED, "more": [X, X]}, ["adjacency"], mixed(X) + 2 * X),
    "nested": ({"x": X, "adjacency": SHARED, "more": (X, 1.5)}, ["adjacency"], mixed(X) + X + 1.5),
    "a mapping": (UserDict(x=X, adjacency=SHARED), ["adjacency"], mixed(X)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GIVEN)
def test_constants_and_shared_arguments_are_the_same_for_every_sample(name, way):
    x, shared, same_as = GIVEN[name]
    problem = gk.ModuleProblem(seeded(Graph), LOSS, shared=shared)
    rows = gk.per_sample(problem, None, x, Y, kernel=way)
    close({"weight": rows["layer.weight"], "bias": rows["layer.bias"]}, plain(problem.model.layer, same_as))


@pytest.mark.parametrize("quantity", ["gradient", "norms", "clipped_sum", "moments"])
def test_every_quantity_takes_them(quantity):
    problem = gk.ModuleProblem(seeded(Graph), LOSS, shared=["adjacency"])
    x = {"x": X, "adjacency": SHARED, "scale": 2.0, "names": None}
    same = gk.ModuleProblem(problem.model.layer, LOSS)
    found, expected = (
        getattr(gk, quantity)(problem, None, x, Y),
        getattr(gk, quantity)(same, None, mixed(X, 2.0), Y, kernel=None if quantity == "gradient" else "torch.loop"),
    )
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_constant_that_changes_counts(way):
    problem = gk.ModuleProblem(seeded(Graph), LOSS, shared=["adjacency"])
    for scale in (1.0, 2.0, 1, True):
        rows = gk.per_sample(problem, None, {"x": X, "adjacency": SHARED, "scale": scale}, Y, kernel=way)
        expected = plain(problem.model.layer, mixed(X, float(scale)))
        close({"weight": rows["layer.weight"], "bias": rows["layer.bias"]}, expected)


def test_a_shared_tensor_that_changes_counts_without_another_proof():
    problem = gk.ModuleProblem(seeded(Graph), LOSS, shared=["adjacency"])
    for factor in (1.0, -1.0):
        rows = gk.per_sample(problem, None, {"x": X, "adjacency": factor * SHARED}, Y)
        expected = plain(problem.model.layer, torch.tanh(X @ SHARED * factor))
        close({"weight": rows["layer.weight"], "bias": rows["layer.bias"]}, expected)


@pytest.mark.parametrize(
    ("x", "shared", "says"),
    [
        ({"x": X, "adjacency": SHARED}, (), r"x\['adjacency'\] \(4, 4\), .* is to be named in shared= of the Module"),
        ({"x": X, "adjacency": SHARED}, ("adj",), r"shared names 'adj', which x does not have; it has \['x', 'adjac"),
        ((X, SHARED), ("adjacency",), r"shared names 'adjacency', which x does not have; it has \[0, 1\]"),
        (X, ("adjacency",), r"shared=\['adjacency'\], but x is one Tensor; make it a tuple or a dict"),
    ],
)
def test_shared_arguments_that_are_not_there_are_refused(x, shared, says):
    with pytest.raises(ValueError, match=says):
        gk.norms(gk.ModuleProblem(seeded(Graph), LOSS, shared=shared), None, x, Y)


def test_what_is_no_array_is_refused_where_it_is():
    with pytest.raises(TypeError, match=r"x\['names'\] is a builtins.set; .* name it in shared= of the ModuleProblem"):
        gk.norms(gk.ModuleProblem(seeded(Graph), LOSS), None, {"x": X, "adjacency": X, "names": {1}}, Y)


def test_chunks_and_examples_take_them_too():
    x = {"x": X, "adjacency": SHARED, "scale": 2.0}
    problem = gk.ModuleProblem(seeded(Graph), LOSS, shared=["adjacency"], example=(x, Y))
    chunks = [rows["layer.bias"] for _, rows in gk.per_sample_chunks(problem, None, x, Y, chunk=2)]
    expected = plain(problem.model.layer, mixed(X, 2.0))
    torch.testing.assert_close(torch.cat(chunks).double(), expected["bias"].double(), rtol=1e-4, atol=1e-5)
    drawn = problem.draw(3, 0)[1]
    assert (drawn["x"].shape, drawn["scale"].value, problem.fixed_features) == ((3, 4), 2.0, 4)
    gk.fastest(problem, "norms", n=4)(None, x, Y)


# --- trees


def test_samples_are_taken_from_arrays_and_constants_stay():
    x, _ = prepare({"a": X, "b": [X, None], "c": "d"}, Y)
    assert count(x) == 5
    assert [leaf.shape for leaf in leaves(take(x, slice(1, 3)))] == [(2, 4), (2, 4)]
    again = unfolded(take(x, slice(1, 3)))
    assert again["b"][1] is None
    assert again["c"] == "d"
    assert torch.equal(again["b"][0], X[1:3])


def test_tensors_are_left_as_they_are():
    x = {"a": X}
    assert prepare(x, Y)[0] is x
    assert prepare(X, Y) == (X, Y)


def test_constants_are_told_apart_by_value_but_numbers_by_type_and_tensors_by_shape():
    kinds = [prepare((X, value), Y)[0][1].kind for value in (1, True, 1.0, "1", None, [1], (1,), False, "2")]
    assert len(set(kinds)) == 9
    assert prepare((X, 1.5), Y)[0][1] == prepare((X, 2.5), Y)[0][1]  # a step or a temperature proves nothing anew
    some = [prepare((X, one), Y, (1,))[0][1] for one in (SHARED, -SHARED, SHARED[:2])]
    assert (some[0] == some[1], some[0] == some[2]) == (True, False)
    assert isinstance(some[0], Constant)


@pytest.mark.parametrize("changes", ["a number", "a tensor", "its entries"])
def test_what_is_compiled_answers_for_its_constants_alone(monkeypatch, changes):
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    made = []

    def recorded(function, x):
        made.append(unfolded(x)[1] * 1)
        return lambda x, value=made[-1]: function(x[0] * value)

    call, shared = per_shape(torch.sum, recorded), SHARED.clone()
    first = call(prepare((X[:4], shared if changes != "a number" else 2.0), Y, (1,))[0])
    assert first == call(prepare((X[:4], shared if changes != "a number" else 2.0), Y, (1,))[0])
    other = {"a number": 3.0, "a tensor": 3 * SHARED, "its entries": shared.mul_(3)}[changes]
    assert call(prepare((X[:4], other), Y, (1,))[0]) != first
    assert len(made) == 2


@dataclass
class Node:
    """A container of a class of its own, known to torch."""

    first: torch.Tensor
    second: float


pytree.register_pytree_node(Node, lambda n: ([n.first, n.second], None), lambda parts, _: Node(*parts))


class TakesNode(Graph):
    def forward(self, node):
        return self.layer(node.first * node.second)


@pytest.mark.parametrize("way", WAYS)
def test_containers_that_torch_knows_are_inputs(way):
    problem = gk.ModuleProblem(seeded(TakesNode), LOSS)
    rows = gk.per_sample(problem, None, {"node": Node(X, 2.0)}, Y, kernel=way)
    close({"weight": rows["layer.weight"], "bias": rows["layer.bias"]}, plain(problem.model.layer, 2 * X))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.layer(x)[1][0][-1])


@pytest.mark.parametrize("way", ["torch.loop", "torch.jacobian", None])
@pytest.mark.parametrize("lengths", [(2, 4, 3, 1, 4), (3, 3, 3, 3, 3)])
def test_packed_sequences_are_inputs(way, lengths):
    generator = torch.Generator().manual_seed(3)
    sequences = [torch.randn(length, 4, generator=generator) for length in lengths]
    problem = gk.ModuleProblem(seeded(Recurrent), LOSS)
    rows = gk.per_sample(problem, None, pack_sequence(sequences, enforce_sorted=False), Y, kernel=way)
    alone = [oracle(problem.model, LOSS, one[None], Y[i : i + 1]) for i, one in enumerate(sequences)]
    close(rows, {name: torch.cat([one[name] for one in alone]) for name in alone[0]})
