"""Models and losses that write to what they are given: the right gradients, and the caller's tensors as they were."""

import pytest
import torch
from peer_keys import KEYS
from torch import nn

import gradkernels as gk
from gradkernels.case import Case
from gradkernels.check import check
from gradkernels.quantity import quantity

LOSS = nn.CrossEntropyLoss()
QUANTITIES = ("per_sample", "norms", "clipped_sum", "moments", "gradient")


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(x.mul_(2))


class Shifting(nn.Module):
    """Writes to one of two inputs."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x, shift):
        shift += 1
        return self.last(x * shift)


class SometimesWriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        if x.detach().amax() > 100:
            x.neg_()
        return self.last(x)


def relabelled(output, y):
    y[y == 9] = 2
    return LOSS(output, y)


MODELS = {
    "relu": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)),
    "leaky relu": lambda: nn.Sequential(nn.LeakyReLU(0.3, inplace=True), nn.Linear(4, 3)),
    "mul_": Doubling,
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def looped(model, x, y, loss=LOSS):
    """One float64 backward pass per sample, each on tensors of its own: `(n, p)`."""
    model, own, rows = model.double(), [*model.parameters()], []
    for i in range(len(y)):
        one = tuple(part[i : i + 1].double() for part in (x if isinstance(x, tuple) else (x,)))
        found = torch.autograd.grad(loss(model(*one), y[i : i + 1].clone()), own)
        rows.append(torch.cat([part.flatten() for part in found]))
    model.float()
    return torch.stack(rows)


def numbers(quantity, found):
    if quantity == "moments":
        return torch.cat([part.flatten() for one in found for part in one.values()])
    if quantity == "norms":
        return found
    return torch.cat([part.flatten(1 if quantity == "per_sample" else 0) for part in found.values()], -1)


def wanted(quantity, rows):
    norms = rows.norm(dim=1)
    return {"per_sample": rows, "norms": norms, "gradient": rows.mean(0),
            "clipped_sum": norms.clamp(min=1).reciprocal() @ rows,
            "moments": torch.cat([rows.mean(0), rows.var(0, correction=0)])}[quantity]  # fmt: skip


@pytest.mark.parametrize("way", [None, "torch.hooks", "torch.loop", "torch.vmap", "torch.jacobian"])
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", MODELS)
def test_every_way_computes_on_copies(name, quantity, way):
    model, x, y = MODELS[name](), torch.randn(7, 4), torch.arange(7) % 3
    before, version = x.clone(), x._version
    problem, want = gk.ModuleProblem(model, LOSS), wanted(quantity, looped(model, x, y))
    for _ in range(4):
        got = numbers(quantity, getattr(gk, quantity)(problem, None, x, y, kernel=way))
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)
        assert torch.equal(x, before)
        assert x._version == version


@pytest.mark.parametrize("key", [*KEYS, "torch.compiled+.norms"])
def test_other_libraries_and_compiled_code_compute_on_copies_or_refuse(key, eager):
    model, x, y = MODELS["leaky relu"](), torch.randn(5, 4), torch.arange(5) % 3
    before, quantity = x.clone(), key.rpartition(".")[2]
    want = wanted(quantity, looped(model, x, y))
    try:
        got = getattr(gk, quantity)(gk.ModuleProblem(model, LOSS), None, x, y, kernel=key)
    except gk.Disagreement:
        raise
    except (ValueError, RuntimeError):
        pass
    else:
        torch.testing.assert_close(numbers(quantity, got).double(), want, rtol=1e-4, atol=1e-6)
    assert torch.equal(x, before)


def test_one_of_two_inputs_is_copied_too():
    model, y = Shifting(), torch.arange(6) % 3
    x = torch.randn(6, 4), torch.randn(6, 4)
    before, want = x[1].clone(), looped(model, x, y).norm(dim=1)
    torch.testing.assert_close(gk.norms(gk.ModuleProblem(model, LOSS), None, x, y).double(), want, rtol=1e-4, atol=1e-6)
    assert torch.equal(x[1], before)


def test_a_loss_that_writes_to_the_targets_leaves_the_callers():
    model, x, y = nn.Linear(4, 3), torch.randn(6, 4), torch.tensor([0, 9, 1, 2, 9, 0])
    want = looped(model, x, y, relabelled).norm(dim=1)
    problem = gk.ModuleProblem(model, relabelled)
    for _ in range(3):
        torch.testing.assert_close(gk.norms(problem, None, x, y).double(), want, rtol=1e-4, atol=1e-6)
    assert y.tolist() == [0, 9, 1, 2, 9, 0]


def test_check_proves_a_model_that_writes_to_its_inputs():
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    problem = gk.ModuleProblem(MODELS["leaky relu"](), LOSS, example=(x, y))
    check(gk.kernel("torch.loop.per_sample"), Case(problem, quantity("per_sample"), 6, "float32"))
    check(gk.kernel("torch.hooks.norms"), Case(problem, quantity("norms"), 6, "float64"))


def test_a_model_that_only_later_writes_raises_once_and_then_gets_copies():
    model, x, y = SometimesWriting(), torch.randn(6, 4), torch.arange(6) % 3
    problem = gk.ModuleProblem(model, LOSS)
    gk.norms(problem, None, x, y, kernel="torch.loop")
    far = x.clone()
    far[5] += 1000
    with pytest.raises(ValueError, match="wrote to x, which it had not done"):
        gk.norms(problem, None, far, y, kernel="torch.loop")
    far = x.clone()
    far[5] += 1000
    before, want = far.clone(), looped(model, far, y).norm(dim=1)
    got = gk.norms(problem, None, far, y, kernel="torch.loop")
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)
    assert torch.equal(far, before)


def test_rows_may_be_written_beside_the_inputs_in_one_memory():
    model, y = nn.Linear(4, 3, bias=False), torch.arange(6) % 3
    memory = torch.randn(96)
    x, out = memory[:24].view(6, 4), {"weight": memory[24:].view(6, 3, 4)}
    rows = gk.per_sample(gk.ModuleProblem(model, LOSS), None, x, y, out=out)
    torch.testing.assert_close(rows["weight"].flatten(1).double(), looped(model, x, y), rtol=1e-4, atol=1e-6)


def test_no_other_model_gets_copies(monkeypatch):
    from gradkernels.problems.module import input_writes

    model, x, y = nn.Linear(4, 3), torch.randn(6, 4), torch.arange(6) % 3
    problem = gk.ModuleProblem(model, LOSS)
    gk.norms(problem, None, x, y)
    monkeypatch.setattr(input_writes, "cloned", lambda tree: pytest.fail("copied"))
    gk.norms(problem, None, x, y)
