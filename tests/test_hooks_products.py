"""Linear maps, sums and copies of parameters however they are written: by a rule, and equal to the loop."""

import weakref

import pytest
import torch
from models import oracle
from test_hooks_layers import agree
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradkernels.engines.hooks import products, quantities
from gradkernels.engines.hooks.engine import HooksEngine
from gradkernels.engines.hooks.rules import vmap_call
from gradkernels.problems.module.module_problem import ModuleProblem

T, D = 3, 4


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(45)


@pytest.fixture
def by_rule(monkeypatch):
    """No call is repeated for each sample alone."""

    def refuse(tape, step, args, kwargs):
        raise AssertionError(f"{step.name} has no rule here")

    monkeypatch.setattr(vmap_call, "run_vmap_call", refuse)


class Written(nn.Module):
    """`body(self, x)` on `(n, t, d)` between two linear layers."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.before, self.after = nn.Linear(D, D), nn.Linear(D, 3)
        self.w, self.b, self.c = (nn.Parameter(torch.randn(*shape)) for shape in ((D, D), (D,), (T, D)))
        self.heads = nn.Parameter(torch.randn(2, D, D))
        self.table, self.ids = nn.Embedding(5, D), torch.tensor([3, 1, 3])
        self.pairs = torch.tensor([[0, 1, 2], [3, 0, 1], [4, 3, 0]])

    def forward(self, x):
        h = torch.tanh(self.body(self, torch.tanh(self.before(x))))
        return self.after(h.flatten(1, -2).mean(1) if h.ndim > 2 else h)


def by_heads(m, h):
    h = torch.einsum("ntd,hde->nthe", h, m.heads)
    return torch.einsum("nthe,hde->ntd", h, m.heads.tanh())


def batched(m, h):
    return torch.baddbmm(m.b, h, m.w.expand(len(h), -1, -1))


def tiled(m, h):
    """Heads in the batch, as DeBERTa has them."""
    apart = h.unsqueeze(1).expand(-1, 2, -1, -1).flatten(0, 1)
    return torch.bmm(apart, m.heads.repeat(len(h), 1, 1)).unflatten(0, (len(h), 2)).sum(1)


BODIES = {
    "x @ W": lambda m, h: h @ m.w,
    "x @ W.T + b": lambda m, h: h @ m.w.T + m.b,
    "W @ x": lambda m, h: (m.w @ h.mT).mT,
    "matmul": lambda m, h: torch.matmul(h, m.w),
    "mm": lambda m, h: torch.mm(h.flatten(0, 1), m.w).unflatten(0, (-1, T)),
    "addmm": lambda m, h: torch.addmm(m.b, h.reshape(-1, D), m.w).view(h.shape),
    "F.linear transposed": lambda m, h: F.linear(h, m.w.T, m.b),
    "einsum": lambda m, h: torch.einsum("ntd,de->nte", h, m.w),
    "einsum with samples last": lambda m, h: torch.einsum("ntd,de->etn", h, m.w).permute(2, 1, 0),
    "a matrix for each head": by_heads,
    "a vector": lambda m, h: (h @ m.b)[..., None] * h,
    "samples in the middle": lambda m, h: (h.transpose(0, 1) @ m.w).transpose(0, 1),
    "positions": lambda m, h: h + m.c,
    "positions taken off": lambda m, h: m.c - h - m.b,
    "positions of a table": lambda m, h: h + m.table(m.ids),
    "positions of a table, moved": lambda m, h: h + m.table(m.ids).to(h.device).contiguous(),
    "positions of a table of one row": lambda m, h: h + m.table(m.ids[None]),
    "a bias for each pair of steps": lambda m, h: (h @ h.mT + m.table(m.pairs).sum(-1)).softmax(-1) @ h,
    "scaled": lambda m, h: h * m.b * m.c,
    "a token in front": lambda m, h: torch.cat([m.b.expand(len(h), 1, -1), h], 1),
    "a token repeated": lambda m, h: torch.cat([m.b[None, None].repeat(len(h), 1, 1), h], 1),
    "heads repeated": tiled,
    "a matrix for each sample": batched,
}
NO_RULE = {"a bias for each pair of steps", "a matrix for each sample", "heads repeated", "a matrix for each head"}
"""Some of their calls take data and copies, or what is made of a parameter in two ways."""


@pytest.mark.parametrize("name", [name for name in BODIES if name not in NO_RULE])
@pytest.mark.usefixtures("by_rule")
def test_by_rule(name):
    for n in (1, 2, T, D, 5):
        agree(Written(BODIES[name]), torch.randn(n, T, D, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(NO_RULE))
def test_by_rule_or_for_each_sample(name):
    for n in (1, 2, T, D, 5):
        agree(Written(BODIES[name]), torch.randn(n, T, D, dtype=torch.float64))


class Embedded(nn.Module):
    """Words in, a tied map out, perhaps used again in between."""

    def __init__(self, times):
        super().__init__()
        self.words, self.out, self.times = nn.Embedding(7, D), nn.Linear(D, 7, bias=False), times
        nn.init.normal_(self.words.weight, std=0.3)
        self.out.weight = self.words.weight

    def forward(self, ids):
        h = self.words(ids)
        for _ in range(self.times):
            h = torch.tanh(F.linear(torch.tanh(self.out(h)), self.words.weight.T)) + self.words(ids.flip(1))
        return self.out(h).sum(1)[:, :3]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_table_that_is_a_linear_map_too(times):
    for n in (1, 2, 6):
        agree(Embedded(times), torch.randint(7, (n, T)))


class Checkpointed(nn.Module):
    """Two blocks that are run again in the backward pass, with one weight in common if they are tied."""

    def __init__(self, reentrant, tied=False, plain=False):
        super().__init__()
        self.first, self.blocks = nn.Linear(D, D), nn.ModuleList(self.block() for _ in range(2))
        self.out, self.reentrant, self.plain = nn.Linear(D, 3), reentrant, plain
        if tied:
            self.blocks[1][0].weight = self.blocks[0][0].weight

    @staticmethod
    def block():
        return nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D))

    def forward(self, x):
        h = torch.tanh(self.first(x))
        for block in self.blocks:
            h = block(h) if self.plain else checkpoint(block, h, use_reentrant=self.reentrant)
        return self.out(h.mean(1))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts(reentrant, tied):
    model = Checkpointed(reentrant, tied)
    plain = Checkpointed(reentrant, tied, plain=True)
    plain.load_state_dict(model.state_dict())  # the oracle, which cannot differentiate the reentrant kind
    for n in (1, 2, 5):
        agree(model, torch.randn(n, T, D, dtype=torch.float64), like=plain)


class Nested(nn.Module):
    """A part in a part, with dropout and a matrix product that autocast takes in bfloat16."""

    def __init__(self, plain):
        super().__init__()
        self.first, self.second, self.out, self.plain = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 3), plain
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=not x.dtype.itemsize > 4):
            h = self.run(self.outer, x)
        return self.out(h.float() if x.dtype.itemsize == 4 else h)

    def outer(self, x):
        return torch.tanh(self.second(self.run(self.inner, x)))

    def inner(self, x):
        return self.drop(torch.tanh(self.first(x)))

    def run(self, part, x):
        return part(x) if self.plain else checkpoint(part, x, use_reentrant=False)


def test_a_part_in_a_part():
    model, plain = Nested(False).eval(), Nested(True).eval()
    plain.load_state_dict(model.state_dict())
    for n in (1, 2, 5):
        x, y = torch.randn(n, D, dtype=torch.float64), torch.arange(n) % 3
        want = oracle(plain, nn.CrossEntropyLoss(), x, y)
        got = quantities.per_sample(ModuleProblem(model.double(), nn.CrossEntropyLoss()), 9)(
            dict(model.named_parameters()), x, y
        )
        for name, rows in want.items():
            torch.testing.assert_close(got[name], rows)


@pytest.mark.parametrize("n", [2, 5])
def test_a_part_is_run_again_under_the_same_autocast_and_with_the_same_draws(n):
    found = {}
    for plain in (True, False):
        torch.manual_seed(0)
        model = Nested(plain).train()
        problem = ModuleProblem(model, nn.CrossEntropyLoss(), randomness="same")
        x, y = torch.randn(n, D), torch.arange(n) % 3
        found[plain] = quantities.per_sample(problem, 9)(problem.parameters(), x, y)
    for name, rows in found[True].items():
        torch.testing.assert_close(found[False][name], rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts_keep_no_activations(reentrant):
    """What is alive between the forward and the backward pass: the inputs of the parts alone."""
    kept = {}
    for plain in (True, False):
        torch.manual_seed(0)
        model = Checkpointed(reentrant, plain=plain)
        problem, x = ModuleProblem(model, nn.CrossEntropyLoss()), torch.randn(4, T, D)
        alive = []
        model.blocks[0][1].register_forward_hook(
            lambda module, args, output, alive=alive: alive.append(weakref.ref(output))
        )
        with HooksEngine(problem).forward(problem.parameters(), x, torch.tensor([0, 1, 2, 0])):
            kept[plain] = sum(one() is not None for one in alive)
    assert kept == {True: 1, False: 0}


WEIGHTED = {
    "one step": (nn.Sequential(nn.Linear(D, 3)), (D,)),
    "few steps": (nn.Sequential(nn.Linear(D, 3)), (2, D)),
    "many steps": (nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 3)), (40, D)),
    "places": (nn.Conv1d(D, 3, 2), (D, 9)),
    "places in groups": (nn.Conv2d(D, 4, 2, groups=2, stride=2, dilation=2, bias=False), (D, 7, 5)),
    "places of an output": (nn.ConvTranspose1d(D, 3, 2), (D, 5)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", WEIGHTED)
def test_several_weightings_are_as_exact_as_each_by_itself(name, dtype):
    """Each has about the digits of its own size, in half precision too."""
    (model, shape), weights = WEIGHTED[name], torch.randn(5, 3) * torch.tensor([1, 1e-3, 1e-6])
    x, y = torch.randn(5, *shape, dtype=dtype), torch.zeros(5, dtype=dtype)
    problem = ModuleProblem(model.to(dtype), lambda output, y: output.float().exp().mean())
    rows = oracle(model.double(), problem.loss_fn, x.double(), y)
    weights = weights.to(dtype if dtype is torch.float64 else torch.float32)
    found = products.weighted_sum(ModuleProblem(model.to(dtype), problem.loss_fn), 9)(
        dict(model.named_parameters()), x, y, weights
    )
    for key, g in rows.items():
        want = torch.tensordot(weights.double().mT, g, 1)
        scale = torch.tensordot(weights.double().abs().mT, g.abs(), 1).flatten(1).amax(1)
        error = (found[key].double() - want).abs().flatten(1).amax(1)
        assert (error <= (1e-12 if dtype is torch.float64 else 0.05) * scale).all()
