"""torch.recorded: nothing that a recording cannot see goes stale, and what it draws is what the hooks draw."""

import warnings

import pytest
import torch
from matrices import matrix
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.tree import leaves

N = 6


class Scale(nn.Module):
    """Multiplies by an attribute."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, x):
        return x * self.factor


class Model(nn.Module):
    """Two layers between which there is an attribute, a buffer, a tensor that is neither, and a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("shift", torch.ones(5))
        self.register_buffer("same", self.shift)
        self.factor, self.plain, self.activation = 2.0, torch.full((5,), 0.5), torch.tanh
        self.frozen = nn.Parameter(torch.full((5,), 3.0), requires_grad=False)
        self.drop = nn.Dropout(0.5)
        self.hidden = [{"scale": Scale()}]  # which no `modules()` yields

    def forward(self, x):
        x = self.hidden[0]["scale"](x)
        h = self.activation(self.first(x) * self.factor + self.shift * self.same) * self.plain + self.frozen
        return self.last(self.drop(h))


def made(**settings):
    torch.manual_seed(5)
    return gk.ModuleProblem(Model().eval(), functional.cross_entropy, **settings)


def data():
    generator = torch.Generator().manual_seed(6)
    return torch.randn(N, 4, generator=generator), torch.randint(3, (N,), generator=generator)


def scale(model):
    model.factor = 0.3


def scale_hidden(model):
    model.hidden[0]["scale"].factor = 0.3


def swap_function(model):
    model.activation = torch.relu


def write_to_buffer(model):
    model.shift.mul_(-2)


def replace_buffer(model):
    model.shift = torch.full((5,), -1.0)


def untie_buffers(model):
    model.same = torch.full((5,), 0.25)


def write_to_frozen(model):
    model.frozen.data.add_(1)


def write_to_attribute(model):
    model.plain.mul_(-1)


def replace_attribute(model):
    model.plain = torch.linspace(0, 1, 5)


def train_weight(model):
    model.frozen.requires_grad_(True)


def freeze_layer(model):
    model.first.weight.requires_grad_(False)


def replace_layer(model):
    model.first = nn.Linear(4, 5)


def add_hook(model):
    model.last.register_forward_hook(lambda module, given, output: output * 2)


def tie(model):
    model.last.bias = nn.Parameter(torch.zeros(3))


def change_weights(model):
    for one in model.parameters():
        one.data.mul_(1.5)


CHANGES = [
    scale,
    scale_hidden,
    swap_function,
    write_to_buffer,
    replace_buffer,
    untie_buffers,
    write_to_frozen,
    write_to_attribute,
    replace_attribute,
    train_weight,
    freeze_layer,
    replace_layer,
    add_hook,
    tie,
    change_weights,
]


@matrix("change,quantity", CHANGES, ["per_sample", "norms", "gradient", "clipped_sum"])
def test_what_changes_is_seen(change, quantity):
    problem, (x, y) = made(), data()
    compute, loop = (gk.kernel(f"{way}.{quantity}").build(problem) for way in ("torch.recorded", _loop(quantity)))
    for _ in range(2):
        before = compute(problem.parameters(), x, y)
    change(problem.model)
    got, want = (f(problem.parameters(), x, y) for f in (compute, loop))
    for one, other in zip(leaves(got), leaves(want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    pairs = zip(leaves(before), leaves(got), strict=False)
    assert len(leaves(before)) != len(leaves(got)) or not all(map(torch.allclose, *zip(*pairs, strict=True)))


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "gradient", "clipped_sum"])
def test_each_mode_has_a_recording_of_its_own(quantity):
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(2 * x if self.training else x)

    problem, (x, y) = gk.ModuleProblem(Doubled(4, 3), functional.cross_entropy), data()
    compute, loop = (gk.kernel(f"{way}.{quantity}").build(problem) for way in ("torch.recorded", _loop(quantity)))
    for training in (True, False, True):
        problem.model.train(training)
        got, want = (leaves(f(problem.parameters(), x, y)) for f in (compute, loop))
        for one, other in zip(got, want, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _loop(quantity):
    return "torch.loop" if quantity == "per_sample" else "torch.loop+"


def test_a_model_that_is_replaced_is_another_problem():
    x, y = data()
    one, other = made(), made()
    other.model.factor = -1.0
    norms = [gk.norms(problem, None, x, y, kernel="torch.recorded") for problem in (one, other)]
    for problem, got in zip((one, other), norms, strict=True):
        torch.testing.assert_close(got, gk.norms(problem, None, x, y, kernel="torch.loop"), rtol=1e-4, atol=1e-5)


def test_autocast_is_seen():
    problem, (x, y) = made(), data()
    recorded, hooks = (gk.kernel(f"torch.{way}.per_sample").build(problem) for way in ("recorded", "hooks"))
    plain = recorded(problem.parameters(), x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            got, want = (f(problem.parameters(), x, y) for f in (recorded, hooks))
    for name, one in want.items():
        torch.testing.assert_close(got[name], one, rtol=2e-2, atol=2e-3)
    assert not torch.equal(got["first.weight"], plain["first.weight"])
    torch.testing.assert_close(recorded(problem.parameters(), x, y)["first.weight"], plain["first.weight"])


def test_means_of_many_samples_do_not_vanish_in_half_precision():
    problem, (x, y) = made(), data()
    compute, n = gk.kernel("torch.recorded.gradient").build(problem), 1 << 17
    x, y = x.repeat(n // 2, 1)[:n] * 1e-2, y.repeat(n // 2)[:n]
    with torch.no_grad():
        problem.model.first.weight.mul_(1e-3)
        problem.model.last.weight.mul_(1e-1)
    want = compute(problem.parameters(), x, y)["first.weight"]
    with torch.autocast("cpu", dtype=torch.float16):
        got = compute(problem.parameters(), x, y)["first.weight"]
    assert (got - want).norm() < 0.02 * want.norm()


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "gradient", "clipped_sum", "moments"])
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_what_is_drawn_is_what_the_hooks_draw(quantity, randomness):
    problem, (x, y) = made(randomness=randomness, seed=3), data()
    problem.model.train()
    recorded, hooks = (gk.kernel(f"torch.{way}.{quantity}").build(problem) for way in ("recorded", "hooks"))
    before = torch.random.get_rng_state()
    for n in (N, 4, N):
        got, want = (f(problem.parameters(), x[:n], y[:n]) for f in (recorded, hooks))
        for one, other in zip(leaves(got), leaves(want), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_numbers_drawn_for_all_samples_together_are_refused_where_one_draw_is_asked_for():
    class Noisy(Model):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    problem, (x, y) = gk.ModuleProblem(Noisy().eval(), functional.cross_entropy, randomness="same"), data()
    with pytest.raises(Unfit, match="randomness='same'"):
        gk.kernel("torch.recorded.norms").build(problem)(problem.parameters(), x, y)


def test_random_numbers_of_python_are_refused():
    import random

    class Noisy(Model):
        def forward(self, x):
            return super().forward(x * random.random())

    problem, (x, y) = gk.ModuleProblem(Noisy().eval(), functional.cross_entropy), data()
    with pytest.raises(Unfit, match="random numbers of Python"):
        gk.kernel("torch.recorded.norms").build(problem)(problem.parameters(), x, y)


READERS = {
    "item": lambda h: h * (1.0 if h.sum().item() > 0 else 2.0),
    "bool": lambda h: h if h.sum() > 0 else -h,
    "tolist": lambda h: h * max(1.0, *h.flatten().tolist()),
    "numpy": lambda h: h * float(abs(h.detach().numpy()).max()),
    "nonzero": lambda h: h + len(h.nonzero()),
    "mask": lambda h: h + h[h > 0].sum(),
    "equal": lambda h: h * (1 if torch.equal(h, h * 2) else 2),
    "print": lambda h: h if "-" in str(h.detach()) else -h,
    "part": lambda h: h if written(h, lambda all: all[:, 0].copy_(h[:, 0])).any() else -h,
    "whole": lambda h: h if written(h, lambda all: torch._foreach_add_([all], [h])).any() else -h,
    "view": lambda h: h if written(h, lambda all: all.copy_(h), of=lambda all: all[:, 0]).any() else -h,
    "array": lambda h: h if written(h, lambda all: all.copy_(h), of=torch.Tensor.numpy).any() else -h,
}


def written(h, write, of=torch.Tensor.detach):
    """Return what shows zeros that were written to afterwards."""
    zeros = torch.zeros(h.shape)
    shown = of(zeros)
    with torch.no_grad():
        write(zeros)
    return (shown > 0) & (shown > -1)


@pytest.mark.parametrize("reader", READERS)
def test_what_looks_at_its_data_is_not_recorded(reader):
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.last(READERS[reader](self.first(x)))

    problem, (x, y) = gk.ModuleProblem(Looking(), functional.cross_entropy), data()
    with pytest.raises(Unfit, match="asks what its data hold"):
        gk.kernel("torch.recorded.norms").build(problem)(problem.parameters(), x, y)


def test_what_counts_its_calls_is_not_recorded():
    class Counting(Model):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    problem, (x, y) = gk.ModuleProblem(Counting().eval(), functional.cross_entropy), data()
    with pytest.raises(Unfit, match="changes its own calls"):
        gk.kernel("torch.recorded.norms").build(problem)(problem.parameters(), x, y)
    assert problem.model.calls == 0


def test_a_buffer_that_is_written_to_is_written_to_by_calls_alone():
    class Counting(Model):
        def forward(self, x):
            self.shift += 1
            return super().forward(x)

    problem, (x, y) = gk.ModuleProblem(Counting().eval(), functional.cross_entropy), data()
    compute = gk.kernel("torch.recorded.norms").build(problem)
    for call in (1, 2):
        compute(problem.parameters(), x, y)
        assert problem.model.shift.tolist() == [1.0 + call] * 5


@pytest.mark.parametrize(
    "forward",
    [
        lambda model, h: model.plain[0].add_(1) * h,
        lambda model, h: torch.rand(len(h), 1, generator=model.generator) * h,
    ],
    ids=["writes to a tensor of its own", "more than tensors and numbers"],
)
def test_what_would_be_another_at_the_next_call_is_not_recorded_and_stays(forward, request):
    class Stateful(Model):
        def forward(self, x):
            return super().forward(forward(self, x))

    problem, (x, y) = gk.ModuleProblem(Stateful().eval(), functional.cross_entropy, randomness="different"), data()
    problem.model.generator = torch.Generator().manual_seed(1)
    with pytest.raises(Unfit, match=request.node.callspec.id):
        gk.kernel("torch.recorded.norms").build(problem)(problem.parameters(), x, y)
    assert problem.model.plain.tolist() == [0.5] * 5
    assert problem.model.generator.get_state().equal(torch.Generator().manual_seed(1).get_state())


def test_targets_that_the_loss_ignores_are_found_at_each_call():
    problem, (x, y) = made(), data()
    compute, loop = (gk.kernel(f"{way}.per_sample").build(problem) for way in ("torch.recorded", "torch.loop"))
    for ignored in (y, torch.where(torch.arange(N) == 2, -100, y), y):
        got, want = (f(problem.parameters(), x, ignored) for f in (compute, loop))
        for name, one in want.items():
            torch.testing.assert_close(got[name], one, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_what_cannot_be_recorded_is_computed_by_another_kernel():
    class Branching(Model):
        def forward(self, x):
            return super().forward(x if x.isfinite().all() else x * 0)

    problem, (x, y) = gk.ModuleProblem(Branching().eval(), functional.cross_entropy), data()
    with warnings.catch_warnings(), pytest.raises(Unfit):
        gk.norms(problem, None, x, y, kernel="torch.recorded")
    want = gk.norms(problem, None, x, y, kernel="torch.loop")
    torch.testing.assert_close(gk.norms(problem, None, x, y), want, rtol=1e-4, atol=1e-5)


def test_layouts_that_have_no_recording_are_refused_in_a_sentence():
    problem, (x, y) = made(), data()
    with pytest.raises(Unfit, match=r"^torch\.recorded takes plain dense tensors, not a Tensor of torch\.sparse_coo"):
        gk.kernel("torch.recorded.norms").build(problem)(problem.parameters(), x.to_sparse(), y)


def test_inputs_laid_out_otherwise_are_right():
    problem, (x, y) = made(), data()
    compute, loop = (gk.kernel(f"{way}.per_sample").build(problem) for way in ("torch.recorded", "torch.loop"))
    for given in (x, x.t().contiguous().t(), x[:1].expand(N, 4), torch.cat([x, x], 1)[:, ::2]):
        got, want = (f(problem.parameters(), given, y) for f in (compute, loop))
        for name, one in want.items():
            torch.testing.assert_close(got[name], one, rtol=1e-4, atol=1e-5)
