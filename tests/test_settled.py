"""What computed a kind of input last computes the next call at once, until anything is learnt of any kernel."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import verdicts
from gradkernels.dispatch.bound_kernels import forget_choices
from gradkernels.dispatch.dispatcher import ModuleDispatcher
from gradkernels.dispatch.trials.trials import first_trial

LOSS = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def unaudited():
    with gk.audit("off"):
        yield


def made():
    return gk.ModuleProblem(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), LOSS)


def data(n=6):
    return torch.randn(n, 4), torch.arange(n) % 3


def made_like(problem):
    return gk.ModuleProblem(problem.model, LOSS)


def norms_of(problem, x, y):
    rows = gk.per_sample(made_like(problem), None, x, y, kernel="torch.loop").values()
    return torch.cat([one.flatten(1) for one in rows], 1).norm(dim=1)


@pytest.fixture
def chosen(monkeypatch):
    """The numbers of samples of calls for norms for which a kernel was chosen anew."""
    found, really = [], ModuleDispatcher._first_that_can

    def noted(self, batch, known, call, audited):
        if self.quantity.name == "norms":
            found.append(len(batch.y))
        return really(self, batch, known, call, audited)

    monkeypatch.setattr(ModuleDispatcher, "_first_that_can", noted)
    return found


def drifting(problem, wrong):
    """A kernel that doubles its results once `wrong` holds anything."""
    hooks = gk.kernel("torch.hooks.norms")

    def build(problem):
        compute = hooks.build(problem)
        return lambda *given, **options: compute(*given, **options) * (1 + len(wrong))

    return replace(hooks, name="drifting", builder=build, options=(), out=False)


def test_a_kernel_that_is_asked_for_is_settled_by_its_first_call(unaudited, chosen):
    problem = made()
    for n in (6, 6, 7, 4, 6):
        x, y = data(n)
        torch.testing.assert_close(gk.norms(problem, None, x, y, kernel="torch.hooks"), norms_of(problem, x, y))
    assert chosen == [6]
    gk.norms(problem, None, *data(9), kernel="torch.hooks")
    assert chosen == [6, 9]


def test_the_fastest_is_settled_but_while_rivals_are_tried(unaudited, chosen):
    problem, (x, y) = made(), data()
    for _ in range(6):
        gk.norms(problem, None, x, y)
    assert len(chosen) == 1
    (dispatcher,) = problem.cache["dispatchers"].values()
    first = first_trial(dispatcher.choice, None)
    assert 100 <= first < float("inf")
    for _ in range(6, first - 1):
        gk.norms(problem, None, x, y)
    assert len(chosen) == 1
    gk.norms(problem, None, x, y)
    assert len(chosen) == 2
    for _ in range(60):
        gk.norms(problem, None, x, y)
    ended = len(chosen)
    assert ended < 50
    for n in (6, 4, 7):
        x, y = data(n)
        torch.testing.assert_close(gk.norms(problem, None, x, y), norms_of(problem, x, y))
    assert len(chosen) == ended


def test_settled_calls_count_for_the_schedule_of_audits():
    problem, wrong = made(), []
    kernel, (x, y) = drifting(problem, wrong), data()
    for _ in range(5):
        gk.norms(problem, None, x, y, kernel=kernel)
    wrong.append(1)
    right = norms_of(problem, x, y)
    for _ in range(2):
        torch.testing.assert_close(gk.norms(problem, None, x, y, kernel=kernel), 2 * right)
    with pytest.raises(gk.Disagreement):
        gk.norms(problem, None, x, y, kernel=kernel)


def test_what_is_audited_always_is_audited_though_settled():
    problem, wrong = made(), []
    kernel, (x, y) = drifting(problem, wrong), data()
    for _ in range(3):
        gk.norms(problem, None, x, y, kernel=kernel)
    wrong.append(1)
    with gk.audit("always"), pytest.raises(gk.Disagreement):
        gk.norms(problem, None, x, y, kernel=kernel)


def test_the_first_call_after_the_model_changed_is_audited_though_settled():
    problem, wrong = made(), []
    kernel, (x, y) = drifting(problem, wrong), data()
    for _ in range(5):
        gk.norms(problem, None, x, y, kernel=kernel)
    wrong.append(1)
    problem.model[0].weight = nn.Parameter(torch.randn(5, 4))
    with pytest.raises(gk.Disagreement):
        gk.norms(problem, None, x, y, kernel=kernel)


def settled(problem):
    (dispatcher,) = problem.cache["dispatchers"].values()
    return dispatcher, [*dispatcher._seen._known.values()][-1]


def test_a_kernel_that_was_found_wrong_for_another_quantity_computes_no_more(unaudited):
    problem, (x, y) = made(), data()
    for _ in range(3):
        gk.norms(problem, None, x, y)
    dispatcher, known = settled(problem)
    was = dispatcher.kernel
    verdicts.set_aside(was, known.kind, problem, "it is wrong")
    right = norms_of(problem, x, y)
    torch.testing.assert_close(gk.norms(problem, None, x, y), right)
    assert dispatcher.kernel != was
    assert "it is wrong" in dispatcher.why


def test_choices_that_are_forgotten_are_made_again(unaudited, chosen):
    problem, (x, y) = made(), data()
    for _ in range(3):
        gk.norms(problem, None, x, y, kernel="torch.hooks")
    assert len(chosen) == 1
    forget_choices()
    gk.norms(problem, None, x, y, kernel="torch.hooks")
    assert len(chosen) == 2


def test_a_limit_of_memory_is_kept_at_every_call(unaudited, chosen):
    problem, (x, y) = made(), data()
    for _ in range(3):
        gk.norms(problem, None, x, y, kernel="torch.hooks", max_bytes=2**24)
    assert len(chosen) == 3


def test_the_models_own_parameters_are_those_that_it_has_now(unaudited):
    problem, (x, y) = made(), data()
    model = problem.model

    def agree():
        found = gk.per_sample(problem, None, x, y, kernel="torch.hooks")
        expected = gk.per_sample(made_like(problem), None, x, y, kernel="torch.loop")
        torch.testing.assert_close(found, expected)
        return found

    for _ in range(2):
        agree()
    first = model[0].weight
    model[0].weight = nn.Parameter(torch.randn(5, 4))
    agree()
    model[0].weight = first
    agree()
    model[2].bias.requires_grad_(False)
    assert "2.bias" not in agree()
    model[2].bias.requires_grad_(True)
    assert "2.bias" in agree()
    model[2].bias = None
    assert "2.bias" not in agree()
    model[1] = nn.Linear(5, 5)
    assert "1.bias" in agree()
    model.load_state_dict({name: torch.randn_like(one) for name, one in model.state_dict().items()})
    agree()


class Fickle(nn.Module):
    """Raises for some data, in training mode of its own; what it has learnt by then is not forgotten."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        if x[0, 0] > 100:
            raise RuntimeError("too large")
        return self.linear(x)


def test_what_the_model_says_is_said_at_every_call_and_forgotten_at_the_next(unaudited):
    problem, (x, y) = gk.ModuleProblem(Fickle(), LOSS), data()
    right = norms_of(problem, x, y)
    large = x + 200
    for _ in range(3):
        torch.testing.assert_close(gk.norms(problem, None, x, y, kernel="torch.hooks"), right)
        torch.testing.assert_close(gk.norms(problem, None, x, y), right)
        with pytest.raises(RuntimeError, match="too large"):
            gk.norms(problem, None, large, y, kernel="torch.hooks")
        with pytest.raises(RuntimeError, match="too large"):
            gk.norms(problem, None, large, y)
