"""Random models that sort, pack, mask, gather, tie, write in place and branch: equal to the loop, or refused."""

import random

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.module_problem import ModuleProblem

WIDTH, STEPS, MANY = 4, 3, 1 << 20
LOSS = nn.CrossEntropyLoss()


class Program(nn.Module):
    """Some of the steps below, drawn by a seed, on `(n, t, width)` and lengths `(n,)`."""

    def __init__(self, seed):
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        double = {"dtype": torch.float64}
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH, **double) for _ in range(3)])
        self.norm, self.table = nn.LayerNorm(WIDTH, **double), nn.Embedding(WIDTH, WIDTH, **double)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True, **double)
        self.matrix = nn.Parameter(torch.randn(WIDTH, WIDTH, **double))
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH, **double))
        self.scale = nn.Parameter(torch.tensor(1.1, **double))
        if draw.random() < 0.3:
            self.layers[1].weight = self.layers[0].weight
        if draw.random() < 0.2:
            self.table.weight = self.layers[2].weight
        if draw.random() < 0.3:
            self.layers[0].requires_grad_(False)
        self.names = [draw.choice(list(ACTIONS)) for _ in range(draw.randint(1, 6))]
        self.draw = draw.random()

    def forward(self, x, lengths):
        for at, name in enumerate(self.names):
            x = ACTIONS[name](self, x, lengths, at)
        return self.layers[2](x.mean(1))[:, :3]


def sort_and_back(m, x, lengths, at):
    order = lengths.argsort(descending=True)
    return torch.tanh(m.layers[at % 3](x[order]))[order.argsort()]


def sort_for_good(m, x, lengths, at):
    return m.norm(x)[lengths.argsort()][torch.arange(len(x))][lengths.argsort().argsort()]


def packed(m, x, lengths, at):
    run = pack_padded_sequence(x, lengths.clamp(max=x.shape[1]), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(m.gru(run)[0], batch_first=True, total_length=x.shape[1])[0] + x


def packed_data(m, x, lengths, at):
    run = pack_padded_sequence(x, lengths.clamp(max=x.shape[1]), batch_first=True, enforce_sorted=False)
    run = run._replace(data=torch.tanh(m.layers[at % 3](run.data)))
    return pad_packed_sequence(run, batch_first=True, total_length=x.shape[1])[0]


def masked(m, x, lengths, at):
    mask = torch.arange(x.shape[1])[None] < lengths[:, None]
    filled = x.clone()
    filled[mask] = torch.tanh(m.layers[at % 3](x[mask]))
    return filled


def last(m, x, lengths, at):
    return x + x[torch.arange(len(x)), (lengths - 1).clamp(max=x.shape[1] - 1)][:, None] * m.scale


def gathered(m, x, lengths, at):
    at_end = (lengths - 1).clamp(max=x.shape[1] - 1)[:, None, None].expand(-1, 1, WIDTH)
    return m.layers[at % 3](x) + x.gather(1, at_end)


def merged(m, x, lengths, at):
    return m.layers[at % 3](x.reshape(-1, WIDTH)).sin().view(x.shape)


def time_first(m, x, lengths, at):
    return (
        torch.addmm(m.layers[0].bias, x.transpose(0, 1).reshape(-1, WIDTH), m.matrix)
        .view(x.shape[1], len(x), WIDTH)
        .transpose(0, 1)
    )


def normed(m, x, lengths, at):
    return m.norm(x)


def token_first(m, x, lengths, at):
    return torch.cat([m.token.expand(len(x), -1, -1), x], 1)[:, :-1] @ m.matrix


def positions(m, x, lengths, at):
    return x + m.table(torch.arange(x.shape[1])) + m.table(torch.zeros(len(x), x.shape[1], dtype=torch.int64))


def in_place(m, x, lengths, at):
    h = m.layers[at % 3](x)
    h[:, 0] = x[:, -1].tanh()
    h += x
    return h.mul_(2)


def filled_in(m, x, lengths, at):
    h = torch.zeros_like(x)
    for t in range(x.shape[1]):
        h[:, t] = m.layers[at % 3](x[:, t])
    return h


def half_written(m, x, lengths, at):
    h = torch.zeros(len(x), x.shape[1], 2 * WIDTH, dtype=x.dtype)
    left, right = h[..., :WIDTH], h[..., WIDTH:]
    left.copy_(m.layers[at % 3](x))
    return h[..., :WIDTH] * 2 + right + left


def branched(m, x, lengths, at):
    return m.norm(x) if m.draw < 0.5 else m.layers[1](m.layers[1](x).tanh())


def rows_in_a_loop(m, x, lengths, at):
    return torch.stack([m.layers[at % 3](row) for row in x])


def attended(m, x, lengths, at):
    query = m.layers[0](x)[:, None]
    return F.scaled_dot_product_attention(query, x[:, None], (x * m.scale)[:, None]).squeeze(1)


def reversed_samples(m, x, lengths, at):
    return m.layers[at % 3](x.flip(0)).flip(0)


def own_matrix(m, x, lengths, at):
    return torch.einsum("nti,oi->nto", x, torch.tanh(m.matrix) * m.scale)


def without_graph(m, x, lengths, at):
    with torch.no_grad():
        h = m.layers[at % 3](x)
    return h + x * m.scale


ACTIONS = {
    one.__name__: one
    for one in (
        sort_and_back, sort_for_good, packed, packed_data, masked, last, gathered, merged, time_first, normed,
        token_first, positions, in_place, filled_in, half_written, branched, rows_in_a_loop, attended,
        reversed_samples, own_matrix, without_graph,
    )
}  # fmt: skip


def check(seed):
    """Every quantity of one program against single samples; whether it was followed."""
    draw = random.Random(-seed)
    model, n = Program(seed), draw.choice([2, 3, 3, 4, 6])
    x = torch.randn(n, STEPS, WIDTH, dtype=torch.float64)
    lengths = torch.tensor([draw.randint(1, STEPS) for _ in range(n)])
    if draw.random() < 0.3:
        lengths[:] = STEPS
    y = torch.randint(3, (n,))
    problem = ModuleProblem(model, LOSS)
    own = problem.parameters()
    rows = [
        torch.autograd.grad(LOSS(model(x[i : i + 1], lengths[i : i + 1]), y[i : i + 1]), list(own.values()),
                            allow_unused=True, materialize_grads=True)
        for i in range(n)
    ]  # fmt: skip
    wanted = {name: torch.stack([row[k] for row in rows]) for k, name in enumerate(own)}
    norms = sum(part.reshape(n, -1).square().sum(1) for part in wanted.values()).sqrt()
    weights = (0.5 / norms).clamp(max=1)
    try:
        data = own, (x, lengths), y
        found = quantities.per_sample(problem, MANY)(*data)
        length = quantities.norms(problem, MANY)(*data)
        clipped = quantities.clipped_sum(problem, MANY)(*data, 0.5)
        second = quantities.moments(problem, MANY)(*data).variance
    except Unfit:
        return False
    torch.testing.assert_close(length, norms, rtol=1e-9, atol=1e-12)
    for name, part in wanted.items():
        torch.testing.assert_close(found[name], part, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(clipped[name], torch.tensordot(weights, part, 1), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(second[name], part.var(0, correction=0), rtol=1e-7, atol=1e-10)
    return True


def test_equal_to_the_loop_or_refused(long):
    followed = [check(seed) for seed in range(6000 if long else 200)]
    assert sum(followed) > len(followed) // 4  # it is not all refused
