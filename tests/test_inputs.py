"""What people pass: constants, shared arguments, containers of any kind, no targets, tensors of every kind."""

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from models import oracle
from modules import seeded
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence
from torch.utils import _pytree as pytree

import gradkernels as gk
from gradkernels.check.reference import true_gradients
from gradkernels.engines.compiled.per_shape import per_shape
from gradkernels.problems.module.inputs import prepare, unfolded
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.output_axes import OutputAxes
from gradkernels.problems.module.split_output import Inseparable
from gradkernels.tree import Constant, count, leaves, take

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
SHARED = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
Y = torch.tensor([0, 2, 1, 1, 0])
LOSS = nn.CrossEntropyLoss()
WAYS = ["torch.loop", "torch.vmap", "torch.jacobian", "torch.hooks", None]


def close(rows, expected):
    assert rows.keys() == expected.keys()
    for name, found in rows.items():
        torch.testing.assert_close(found.double(), expected[name].double(), rtol=1e-4, atol=1e-5)


def plain(model, x, y=Y):
    """Rows of a model that has the same parameters and takes one tensor."""
    return oracle(model, LOSS, x, y)


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


# --- losses and targets


@dataclass
class Output:
    """What a model of a library gives."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None
    cache: object = None
    scale: float = 1.0


pytree.register_pytree_node(
    Output, lambda o: ([o.logits, o.loss, o.cache, o.scale], None), lambda parts, _: Output(*parts)
)


class Library(nn.Module):
    """Computes its loss where it is given labels."""

    def __init__(self, registered: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, labels=None):
        logits = self.layer(x)
        loss = functional.cross_entropy(logits, labels) if labels is not None else None
        return Output(logits, loss, cache=object())


def layer_of(rows):
    return {"weight": rows["layer.weight"], "bias": rows["layer.bias"]}


def given_loss(output, y):
    return output.loss


@pytest.mark.parametrize("loss", [None, given_loss])
@pytest.mark.parametrize("y", [None, Y])
@pytest.mark.parametrize("way", ["torch.loop", "torch.vmap", None])
def test_the_loss_that_a_model_computes_itself(loss, y, way):
    problem = gk.ModuleProblem(seeded(Library), loss)
    rows = gk.per_sample(problem, None, {"x": X, "labels": Y}, y, kernel=way)
    close(layer_of(rows), plain(problem.model.layer, X))


@pytest.mark.parametrize("quantity", ["gradient", "norms", "clipped_sum", "moments"])
def test_every_quantity_of_such_a_loss(quantity):
    problem = gk.ModuleProblem(seeded(Library))
    found = getattr(gk, quantity)(problem, None, {"x": X, "labels": Y}, None)
    same = getattr(gk, quantity)(gk.ModuleProblem(problem.model.layer, LOSS), None, X, Y)
    for one, other in zip(leaves(found), leaves(same), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_part_of_an_output_that_is_of_samples_may_lie_beside_others(way):
    problem = gk.ModuleProblem(seeded(Library), lambda output, y: LOSS(output.logits * output.scale, y))
    rows = gk.per_sample(problem, None, {"x": X, "labels": Y}, Y, kernel=way)
    close(layer_of(rows), plain(problem.model.layer, X))


@pytest.mark.parametrize("settings", [{"max_bytes": 10**8}, {"kernel": "torch.loop"}])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_such_a_loss_of_few_samples_and_within_memory(n, settings):
    problem = gk.ModuleProblem(seeded(Library))
    found = gk.norms(problem, None, {"x": X[:n], "labels": Y[:n]}, None, **settings)
    rows = plain(problem.model.layer, X[:n], Y[:n])
    expected = torch.stack([one.flatten(1).norm(dim=1) for one in rows.values()]).norm(dim=0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_no_samples_at_all():
    norms = gk.norms(gk.ModuleProblem(seeded(Library)), None, {"x": X[:0], "labels": Y[:0]}, None)
    assert norms.shape == (0,)


def test_a_model_without_a_loss_of_its_own_is_refused():
    with pytest.raises(ValueError, match="the model gives a Tensor without a loss; have it given its labels in x"):
        gk.norms(gk.ModuleProblem(nn.Linear(4, 3)), None, X, None)


@pytest.mark.parametrize("loss", [LOSS, functional.cross_entropy])
def test_a_loss_object_says_which_part_of_an_output_it_takes(loss):
    says = r"takes a tensor, but the model gives a Output; .* loss_fn=lambda output, y: loss\(output.logits, y\)"
    with pytest.raises(ValueError, match=says):
        gk.norms(gk.ModuleProblem(seeded(Library), loss), None, X, Y)


def test_a_part_of_the_whole_batch_cannot_be_had_for_one_sample():
    problem = gk.ModuleProblem(seeded(Library), given_loss)
    with pytest.raises(Exception, match="has to be called on one sample at a time"):
        gk.norms(problem, None, {"x": X, "labels": Y}, None, kernel="torch.jacobian")


class Plain:
    """What no library of containers knows."""

    def __init__(self, **parts):
        vars(self).update(parts)


class Entries(dict):
    """A dict with entries as attributes."""

    def __getattr__(self, name):
        return self[name]


@dataclass(slots=True)
class Slots:
    """A dataclass without a `__dict__`."""

    logits: torch.Tensor
    loss: torch.Tensor


class Unknown(nn.Module):
    """Gives its logits and its loss in a container of some kind."""

    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind = nn.Linear(4, 3), kind

    def forward(self, x, labels):
        logits = self.layer(x)
        return self.kind(logits=logits, loss=functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("way", [None, "torch.loop"])
@pytest.mark.parametrize("loss", [given_loss, lambda output, y: LOSS(output.logits, y)])
@pytest.mark.parametrize("kind", [Plain, Entries, Slots])
def test_samples_go_one_by_one_where_the_output_is_of_an_unknown_kind(kind, loss, way, n):
    torch.manual_seed(0)
    problem = gk.ModuleProblem(Unknown(kind), loss)
    rows = gk.per_sample(problem, None, {"x": X[:n], "labels": Y[:n]}, Y[:n], kernel=way)
    expected = plain(problem.model.layer, X, Y)
    close(layer_of(rows), {name: part[:n] for name, part in expected.items()})


class Prior(nn.Module):
    """Gives tensors without samples beside what has them."""

    def __init__(self, entries, classes=3):
        super().__init__()
        self.layer, self.scale = nn.Linear(4, classes), nn.Parameter(torch.ones(3, 3))
        self.register_buffer("prior", torch.linspace(-1, 1, entries))

    def forward(self, x):
        inner = SimpleNamespace(scale=self.scale, prior=self.prior)
        return {"logits": self.layer(x), "inner": inner, "prior": self.prior}


def with_prior(output, y):
    scale = output["inner"].scale.pow(2).mean()
    return functional.cross_entropy(scale * output["logits"] + output["prior"], y)


@pytest.mark.parametrize("way", [None, "torch.vmap"])
@pytest.mark.parametrize("mixing", ["error", "own"])
@pytest.mark.parametrize("entries", [1, 2, 3, 5])
def test_what_happens_to_be_as_long_as_the_batch_is_not_cut_into_samples(entries, mixing, way):
    torch.manual_seed(0)
    model = Prior(entries, 3 if entries == 1 else entries)
    problem = gk.ModuleProblem(model, with_prior, mixing=mixing)
    for n in (1, 2, 3, 5, 8):
        x, y = torch.randn(n, 4), torch.arange(n) % max(2, entries)
        losses = [with_prior(model(x[i : i + 1]), y[i : i + 1]) for i in range(n)]
        each = [torch.autograd.grad(loss, [*model.parameters()]) for loss in losses]
        expected = [torch.stack(rows) for rows in zip(*each, strict=True)]
        found = gk.per_sample(problem, None, x, y, kernel=way)
        for (name, _), rows in zip(model.named_parameters(), expected, strict=True):
            torch.testing.assert_close(found[name], rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_ways_that_take_an_output_apart_refuse_what_is_the_same_for_all_samples_at_every_number(n):
    problem, y = gk.ModuleProblem(Prior(5, 5), with_prior), torch.arange(n) % 5
    with pytest.raises(Exception, match="of the whole batch and cannot be taken apart"):
        gk.per_sample(problem, None, torch.randn(n, 4), y, kernel="torch.hooks")
    logits = gk.ModuleProblem(problem.model, lambda output, y: LOSS(output["logits"], y))
    x = torch.randn(n, 4)
    rows = gk.per_sample(logits, None, x, y, kernel="torch.hooks")
    close({name: rows[f"layer.{name}"] for name in ("weight", "bias")}, plain(problem.model.layer, x, y))


def test_an_output_that_varies_is_not_guessed_about():
    parts = OutputAxes()
    parts.learn((torch.ones(1, 3), torch.ones(4)), (torch.ones(2, 3), torch.ones(4)), 2)
    assert parts.have_samples((torch.ones(4, 3), torch.ones(4)), 4) == (True, False)
    with pytest.raises(Inseparable, match="varies from batch to batch"):
        parts.have_samples((torch.ones(3, 3), torch.ones(4)), 4)
    with pytest.raises(Inseparable, match="not known of an output that was not looked at"):
        parts.have_samples([torch.ones(4, 3), torch.ones(4)], 4)
    assert parts.have_samples([torch.ones(4, 3), torch.ones(5)], 4) == (True, False)
    parts.learn((torch.ones(1, 3), torch.ones(1)), (torch.ones(2, 3), torch.ones(2)), 2)
    with pytest.raises(Inseparable, match="varies from batch to batch"):
        parts.have_samples((torch.ones(4, 3), torch.ones(4)), 4)


def closed_over(k):
    return lambda output, y: k * output.sum()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss()),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), nn.CrossEntropyLoss(weight=torch.ones(3))),
        ([lambda o, y, k=k: k * o.sum() for k in (1, 1)]),
        (closed_over(2), closed_over(2)),
        (nn.Sequential(nn.MSELoss()), nn.Sequential(nn.MSELoss())),
    ],
)
def test_losses_that_compute_the_same_are_the_same(one, other):
    model = nn.Linear(4, 3)
    first, second = gk.ModuleProblem(model, one), gk.ModuleProblem(model, other)
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), nn.CrossEntropyLoss(weight=2 * torch.ones(3))),
        ([lambda o, y, k=k: k * o.sum() for k in (1, 2)]),
        (closed_over(1), closed_over(2)),
        (closed_over(object()), closed_over(object())),
        (nn.MSELoss(), nn.L1Loss()),
    ],
)
def test_losses_that_compute_something_else_are_others(one, other):
    assert gk.ModuleProblem(nn.Linear(4, 3), one) != gk.ModuleProblem(nn.Linear(4, 3), other)
    assert identity(one) != identity(other)


def test_losses_are_known_without_looking_through_whole_models_or_for_ever():
    def itself(output, y):
        return itself and output.sum()

    teacher = nn.Linear(4, 3)

    def distilled(output, y):
        return (output - teacher(y)).square().mean()

    assert identity(itself) == identity(itself)
    before = identity(distilled)
    with torch.no_grad():
        teacher.weight.add_(1)
    assert identity(distilled) == before  # its entries are read at each call


def test_a_setting_of_a_loss_that_changes_counts():
    loss = nn.CrossEntropyLoss()
    problem = gk.ModuleProblem(seeded(lambda: nn.Linear(4, 3)), loss)
    bound = gk.fastest(problem, "per_sample", like=(None, X, Y))
    for smoothing in (0.0, 0.5, 0.0):
        loss.label_smoothing = smoothing
        expected = oracle(problem.model, nn.CrossEntropyLoss(label_smoothing=smoothing), X, Y)
        for way in WAYS:
            close(gk.per_sample(problem, None, X, Y, kernel=way), expected)
        close(bound(None, X, Y), expected)


# --- tensors of every kind


@pytest.mark.parametrize("way", WAYS)
def test_data_from_a_graph_are_data(way):
    backbone, model = nn.Linear(4, 4), seeded(lambda: nn.Linear(4, 3))
    x = backbone(X)
    problem = gk.ModuleProblem(model, LOSS)
    rows = gk.per_sample(problem, None, x, Y, kernel=way)
    close(rows, plain(model, x.detach()))
    assert not any(one.requires_grad for one in rows.values())
    assert backbone.weight.grad is None


class Scaled(nn.Module):
    """A parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.layer(x) * self.scale.exp()


class OfComplex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("turn", torch.tensor([1j, 1.0, -1j, 0.5]))

    def forward(self, x):
        return self.layer((x * self.turn).real)


class Casting(nn.Module):
    """A frozen layer in bfloat16, which its input is cast to."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.layer = nn.Linear(4, 4).bfloat16().requires_grad_(False), nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(self.frozen(x.bfloat16()).float())


WORDS = torch.tensor([[0, 1, 1], [2, 3, 0], [4, 4, 4], [1, 0, 2], [3, 2, 1]])


def sparse():
    return nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Flatten(), nn.Linear(6, 3))


KINDS = {
    "a parameter without axes": (Scaled, X),
    "complex inputs": (OfComplex, torch.complex(X, -X)),
    "sparse gradients": (sparse, WORDS),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("way", ["torch.loop", None])
@pytest.mark.parametrize("quantity", ["per_sample", "norms", "clipped_sum", "gradient", "moments"])
@pytest.mark.parametrize("name", KINDS)
def test_parameters_and_inputs_of_every_kind(name, quantity, way):
    make, x = KINDS[name]
    problem = gk.ModuleProblem(seeded(make), LOSS)
    found = getattr(gk, quantity)(problem, None, x, Y, kernel=way)
    rows = [loss_rows(problem, x, i) for i in range(5)]
    flat = torch.stack([torch.cat([one.flatten() for one in row]) for row in rows]).double()
    norms = flat.norm(dim=1)
    expected = {
        "per_sample": flat,
        "norms": norms,
        "clipped_sum": (flat * (1 / norms).clamp(max=1)[:, None]).sum(0),
        "gradient": flat.mean(0),
        "moments": torch.stack([flat.mean(0), flat.var(0, correction=0)]),
    }[quantity]
    if quantity == "moments":
        found = torch.stack([torch.cat([one.flatten() for one in part.values()]) for part in found])
    elif quantity != "norms":
        first = (5,) if quantity == "per_sample" else ()
        found = torch.cat([one.reshape(*first, -1) for one in found.values()], -1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def loss_rows(problem, x, i):
    model = problem.model
    parts = torch.autograd.grad(LOSS(model(x[i : i + 1]), Y[i : i + 1]), [*model.parameters()])
    return [part.to_dense() if part.is_sparse else part for part in parts]


def test_frozen_halves_beside_trained_floats():
    problem = gk.ModuleProblem(seeded(Casting), LOSS)
    rows = gk.per_sample(problem, None, X, Y)
    with torch.no_grad():
        inner = problem.model.frozen(X.bfloat16()).float()
    close(layer_of(rows), plain(problem.model.layer, inner))


class TwoDtypes(Casting):
    def __init__(self) -> None:
        super().__init__()
        self.frozen.requires_grad_(True)

    def forward(self, x):
        return self.layer(self.frozen(x.to(self.frozen.weight.dtype)).to(self.layer.weight.dtype))


@pytest.mark.parametrize("way", ["torch.loop", "torch.vmap", "torch.hooks", None])
def test_parameters_of_two_dtypes_give_rows_of_two(way):
    problem = gk.ModuleProblem(seeded(TwoDtypes), LOSS)
    rows = gk.per_sample(problem, None, X, Y, kernel=way)
    assert {name: one.dtype for name, one in rows.items()} == {
        name: one.dtype for name, one in problem.parameters().items()
    }
    for name, expected in oracle(problem.model, LOSS, X, Y).items():
        torch.testing.assert_close(rows[name].double(), expected, rtol=0.05, atol=0.02)


def test_norms_of_two_dtypes_are_of_the_wider_one():
    norms = gk.norms(gk.ModuleProblem(seeded(TwoDtypes), LOSS), None, X, Y)
    assert norms.dtype == torch.float32


def test_dtypes_that_are_not_the_models_are_refused():
    problem = gk.ModuleProblem(seeded(TwoDtypes), LOSS)
    theta = {**problem.parameters(), "frozen.bias": torch.zeros(4)}
    with pytest.raises(
        TypeError, match=r"mixed dtype: .*theta\['frozen.bias'\] torch.float32.* each to that of the mo"
    ):
        gk.norms(problem, theta, X, Y)


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.weight).abs()


def test_complex_parameters_are_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"theta\['weight'\] is torch.complex64; .* keep torch.view_as_real of it"):
        gk.norms(gk.ModuleProblem(Turned(), LOSS), None, X, Y)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(5, 3)

    def forward(self, words, offsets):
        return self.bag(words, offsets)


def test_an_embedding_bag_with_offsets_is_refused_with_its_reason():
    x = WORDS.flatten(), torch.arange(0, 15, 3)
    with pytest.raises(ValueError, match="given offsets has the words of all samples on one axis: give it words as"):
        gk.norms(gk.ModuleProblem(Bag(), LOSS), None, x, Y)


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            output = self.second(torch.tanh(self.first(x)))
        return output.float()


@pytest.mark.parametrize("way", ["torch.loop", "torch.hooks", None])
def test_autocast_inside_the_model(way):
    problem = gk.ModuleProblem(seeded(Inside), LOSS)
    rows = gk.per_sample(problem, None, X, Y, kernel=way)
    for name, expected in oracle(problem.model, LOSS, X, Y).items():
        torch.testing.assert_close(rows[name].double(), expected, rtol=0.05, atol=0.02)


def test_autocast_around_the_call():
    problem = gk.ModuleProblem(seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))), LOSS)
    with torch.autocast("cpu", torch.bfloat16):
        rows = gk.per_sample(problem, None, X, Y)
    for name, expected in oracle(problem.model, LOSS, X, Y).items():
        torch.testing.assert_close(rows[name].double(), expected, rtol=0.05, atol=0.02)


class MaskedByTheLargest(nn.Module):
    """Adds the smallest number of float32 twice: finite in float32 after the clamp, as attention masks are made."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        huge = torch.finfo(x.dtype).max if x.dtype == torch.float64 else 1.0
        return self.layer(x) + (huge * 2 - huge * 2)


def test_a_reference_that_is_not_finite_in_float64_is_computed_in_the_models_own_dtype():
    problem = gk.ModuleProblem(seeded(MaskedByTheLargest), LOSS)
    rows = gk.per_sample(problem, None, X, Y)
    close(layer_of(rows), plain(problem.model.layer, X))
    theta = {name: one.detach().double().numpy() for name, one in problem.parameters().items()}
    truth = true_gradients(problem, theta, X.double().numpy(), Y.numpy()).rows  # what kernels are timed against
    wanted = torch.cat([one.flatten(1) for one in plain(problem.model.layer, X).values()], 1)
    torch.testing.assert_close(torch.from_numpy(truth), wanted.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "error", "says"),
    [
        (lambda output, y: LOSS(output, y).item(), TypeError, "loss_fn returned a float; it must return a tensor"),
        (lambda output, y: None, TypeError, "loss_fn returned a NoneType; it must return a tensor"),
        (lambda output, y: (LOSS(output, y), 0), TypeError, "loss_fn returned a tuple; it must return a tensor"),
        (lambda output, y: LOSS(output.detach(), y), ValueError, "does not depend on the model's parameters"),
    ],
)
def test_a_loss_without_a_gradient_is_refused_in_a_sentence(loss, error, says):
    with pytest.raises(error, match=says):
        gk.norms(gk.ModuleProblem(nn.Linear(4, 3), loss), None, X, Y)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_are_refused_in_a_sentence():
    x = torch.nested.nested_tensor([X[0], X[1]])
    with pytest.raises(ValueError, match="x is a nested tensor, .* torch.nested.to_padded_tensor"):
        gk.norms(gk.ModuleProblem(nn.Linear(4, 3), LOSS), None, x, Y[:2])
