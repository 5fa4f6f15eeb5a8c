"""Recordings are of one state of a model, and refused where a recording could not do what the model does."""

import pytest
import torch
from torch import nn

import gradkernels as gk

WAYS = ("torch.compiled_hooks.per_sample", "torch.compiled.per_sample")
X = torch.linspace(-1, 1, 30).sin().reshape(5, 6)
Y = torch.tensor([0, 2, 1, 0, 2])


class Scaled(nn.Module):
    """A linear map, and what a subclass makes of its output."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.scaled(self.linear(x), x)

    def scaled(self, h, x):
        return h


def by_hand(model, loss_fn):
    """Rows by one backward pass for each sample, by name."""
    rows = []
    for i in range(len(X)):
        loss = loss_fn(model(X[i : i + 1]), Y[i : i + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    return {name: torch.stack(parts) for (name, _), *parts in zip(model.named_parameters(), *rows, strict=True)}


def require_right(problem, compute):
    got = compute(problem.parameters(), X, Y)
    for name, rows in by_hand(problem.model, problem.loss_fn).items():
        torch.testing.assert_close(got[name], rows)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("eager")
def test_weights_of_a_loss_are_arguments(way):
    loss = nn.CrossEntropyLoss(weight=torch.ones(3), reduction="sum")
    problem = gk.ModuleProblem(Scaled(), loss, reduction="sum")
    compute = gk.kernel(way).build(problem)
    require_right(problem, compute)
    loss.weight.copy_(torch.tensor([0.1, 1.0, 10.0]))
    require_right(problem, compute)
    loss.weight = torch.tensor([2.0, 1.0, 3.0])
    require_right(problem, compute)


@pytest.mark.parametrize("way", WAYS)
def test_each_mode_has_a_recording(way, eager):
    class Doubled(Scaled):
        def scaled(self, h, x):
            return 2 * h if self.training else h

    problem = gk.ModuleProblem(Doubled(), nn.CrossEntropyLoss())
    compute = gk.kernel(way).build(problem)
    for training in (True, False, True, False):
        problem.model.train(training)
        require_right(problem, compute)
    assert len(eager) == 2


class Branching(Scaled):
    def scaled(self, h, x):
        return h if x.sum() > 0 else 2 * h


class Buffered(Scaled):
    def __init__(self):
        super().__init__()
        self.register_buffer("sign", torch.tensor(1.0))

    def scaled(self, h, x):
        return h if self.sign > 0 else 2 * h


class Dropped(Scaled):
    def scaled(self, h, x):
        return nn.functional.dropout(h, 0.5, self.training)


class Counting(Scaled):
    def scaled(self, h, x):
        self.train(not self.training)
        return h


class Keeping(Scaled):
    seen, last = 0, None

    def scaled(self, h, x):
        self.seen, self.last = self.seen + 1, h.detach()
        return h


REFUSED = {
    Branching: "the model's Python asks what its data hold, as for a branch, and a recording cannot",
    Buffered: "the model's Python asks what its data hold, as for a branch, and a recording cannot",
    Dropped: "the model draws random numbers, which randomness='error' refuses: call model.eval()",
    Counting: "the model changes its own training when it is called, and a recording would not",
    Keeping: "the model changes its own last, seen when it is called, and a recording would not",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.usefixtures("eager")
def test_what_no_recording_can_do_is_refused(kind, way):
    problem = gk.ModuleProblem(kind(), nn.CrossEntropyLoss())
    with pytest.raises(RuntimeError) as raised:
        gk.kernel(way).build(problem)(problem.parameters(), X, Y)
    said = str(raised.value)
    assert said.startswith("torch.compile cannot compile the gradient of module:")
    assert REFUSED[kind] in said
    assert said.endswith("; take another kernel")
    assert not any(isinstance(one, torch.Tensor) for one in vars(problem.model).values())
    problem.model(X)


class Picking(Scaled):
    def scaled(self, h, x):
        return h[torch.arange(len(x)).flip(0)]


@pytest.mark.usefixtures("eager")
def test_indices_are_unknown_to_a_recording_of_hooks():
    problem = gk.ModuleProblem(Picking(), nn.CrossEntropyLoss())
    with pytest.raises(RuntimeError, match="picks entries by indices, and in a recording it is unknown which samples"):
        gk.kernel(WAYS[0]).build(problem)(problem.parameters(), X, Y)


@pytest.mark.usefixtures("eager")
def test_a_mode_that_draws_is_refused_until_it_is_left():
    problem = gk.ModuleProblem(Dropped().eval(), nn.CrossEntropyLoss())
    compute = gk.kernel("torch.compiled_hooks.per_sample").build(problem)
    require_right(problem, compute)
    problem.model.train()
    with pytest.raises(RuntimeError, match="draws random numbers"):
        compute(problem.parameters(), X, Y)
    problem.model.eval()
    require_right(problem, compute)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.usefixtures("eager")
def test_sums_over_chunks_of_halves_are_taken_in_float32(dtype):
    # 16 times 1 beside 2048, in chunks of one of them: in halves 2048 + 1 is 2048.
    problem = gk.ModuleProblem(nn.Linear(1, 1).to(dtype), lambda output, y: (output - y).sum(), reduction="sum")
    x = torch.tensor([[2048.0], [0.0], *[[1.0], [0.0]] * 16], dtype=dtype)
    compute = gk.kernel("torch.compiled_hooks[chunk=2].clipped_sum").build(problem)
    total = compute(problem.parameters(), x, torch.zeros(34, 1, dtype=dtype), max_norm=float("inf"))["weight"]
    assert (total.item(), total.dtype) == (2064.0, dtype)
    norms = gk.kernel("torch.compiled_hooks.norms").build(problem)(problem.parameters(), x[:4], x[:4])
    assert (norms[0].item(), norms.dtype) == (2048.0, dtype)
