"""Losses that a model computes itself, targets that are not there, and losses that are the same or others."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from models import oracle
from modules import seeded
from small_batch import LOSS, WAYS, X, Y, close, layer_of, plain
from torch import nn
from torch.nn import functional
from torch.utils import _pytree as pytree

import gradkernels as gk
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.output_axes import OutputAxes
from gradkernels.problems.module.split_output import Inseparable
from gradkernels.tree import leaves


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
