"""Constants that meet parameters before data: first states, start tokens, positions; as many as samples by chance."""

import torch
from every_quantity import require_equal
from matrices import matrix
from torch import nn
from torch.nn import functional as F

from gradkernels.engines.hooks.capture.guesses import Guess, Guesses
from gradkernels.engines.hooks.capture.sample_axis import Axis

N, T, D, H = 6, 5, 3, 4
WAYS = ("hooks", "recorded")

FIRST = {
    "new_zeros": lambda x: x.new_zeros(len(x), H),
    "zeros": lambda x: torch.zeros(len(x), H, dtype=x.dtype),
    "zeros, then to": lambda x: torch.zeros(len(x), H).to(x),
    "zeros, then type_as": lambda x: torch.zeros(len(x), H).type_as(x),
    "full": lambda x: torch.full((len(x), H), 0.5, dtype=x.dtype),
    "new_full": lambda x: x.new_full((len(x), H), 0.5),
    "new_empty": lambda x: x.new_empty(len(x), H).fill_(0.3),
    "zeros_like": lambda x: torch.zeros_like(x[:, 0, :1]).expand(-1, H),
    "ones_like": lambda x: torch.ones_like(x[:, 0, :1]).repeat(1, H),
    "expand": lambda x: torch.ones(1, H, dtype=x.dtype).expand(len(x), H),
    "repeat": lambda x: torch.ones(H, dtype=x.dtype).repeat(len(x), 1),
    "stack": lambda x: torch.stack([x.new_ones(H)] * len(x)),
    "time first": lambda x: torch.zeros(1, len(x), H, dtype=x.dtype)[0],
    "of all samples": lambda x: torch.ones(1, H, dtype=x.dtype),
    "without an axis": lambda x: torch.ones(H, dtype=x.dtype),
}


class Elman(nn.Module):
    """Two linear maps at each step, the first time of a constant."""

    def __init__(self, first):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.a, self.b, self.head = first, nn.Linear(D, H), nn.Linear(H, H), nn.Linear(H, 3)

    def forward(self, x):
        h = self.first(x)
        for step in x.unbind(1):
            h = torch.tanh(self.a(step) + self.b(h))
        return self.head(h)


class Parts(nn.Module):
    """Layers that the programs below use."""

    def __init__(self, program, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.program, self.start = program, nn.Parameter(torch.randn(H))
        self.data, self.state, self.gates, self.more = (nn.Linear(i, o) for i, o in
                                                        ((D, H), (H, H), (H, 3 * H), (D, 3 * H)))  # fmt: skip
        self.head, self.codes, self.words = nn.Linear(H, classes), nn.Linear(2, H), nn.Embedding(9, H)
        self.cell, self.norm, self.wide = nn.GRUCell(H, H), nn.LayerNorm(H), nn.Linear(N, classes)
        self.layer, self.narrow = nn.GRU(H, H, batch_first=True), nn.GRUCell(2, H)
        self.conv, self.again = nn.Conv1d(D, H, 3, padding=1), nn.Conv1d(H, H, 3, padding=1)

    def forward(self, x):
        return self.program(self, x)


def gated(m, x):
    h = x.new_zeros(len(x), H)
    for step in x.unbind(1):
        (r, z, c), (s, u, d) = m.more(step).chunk(3, 1), m.gates(h).chunk(3, 1)
        z = torch.sigmoid(z + u)
        h = (1 - z) * torch.tanh(c + torch.sigmoid(r + s) * d) + z * h
    return m.head(h)


def normed(m, x):
    h = x.new_zeros(len(x), H)
    for step in x.unbind(1):
        h = torch.tanh(m.data(step) + m.norm(m.state(h)))
    return m.head(h)


def convolved(m, x):
    x = x.transpose(1, 2)
    h = x.new_zeros(len(x), H, x.shape[2])
    for _ in range(2):
        h = torch.tanh(m.conv(x) + m.again(h))
    return m.head(h.mean(2))


def scaled(m, x):
    h = x.new_zeros(len(x), H)
    for step in x.unbind(1):
        h = torch.sigmoid(m.start) * h + m.data(step)
    return m.head(h)


def learned(m, x):
    return m.head(torch.tanh(m.data(x[:, 0]) + m.state(x.new_zeros(len(x), H) + m.start)))


def decoded(start):
    """A decoder that begins with a token, and goes on with the most likely one."""

    def program(m, x):
        h, token, total = torch.tanh(m.data(x.mean(1))), start(len(x)), 0
        for _ in range(3):
            h = m.cell(m.words(token).view(len(x), H), h)
            total = total + m.head(h)
            token = m.head(h).argmax(-1).view(token.shape)
        return total

    return program


def fed_with_nothing(m, x):
    h = torch.tanh(m.data(x.mean(1)))
    layer = m.layer(x.new_zeros(len(x), 2, H), h[None].contiguous())[0]
    return m.head(layer.mean(1) + m.narrow(x.new_zeros(len(x), 2), h))


def parameter_like_data(m, x):
    h = torch.tanh(m.data(x[:, 0]))
    return m.head(h + m.start.to(x) * m.start.type_as(x) + m.start.expand_as(h))


PROGRAMS = {
    "gates by hand": gated,
    "normalized by hand": normed,
    "convolutions": convolved,
    "scaled": scaled,
    "learned": learned,
    "token (n,)": decoded(lambda n: torch.full((n,), 2)),
    "token (n, 1)": decoded(lambda n: torch.full((n, 1), 2)),
    "token (1, n)": decoded(lambda n: torch.zeros(1, n, dtype=torch.int64)),
    "layer and cell of zeros": fed_with_nothing,
    "parameter like data": parameter_like_data,
}


def positions_by_a_map(m, x):
    t = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype)
    return m.head(torch.tanh(m.data(x) + m.codes(torch.stack([t, t.sin()], 1))).mean(1))


def positions_by_a_table(m, x):
    return m.head(torch.tanh(m.data(x) + m.words(torch.arange(x.shape[1]))).mean(1))


def positions_of_one(m, x):
    return m.head(torch.tanh(m.data(x) + m.words(torch.arange(x.shape[1])[None])).mean(1))


def codes(of=N):
    return torch.linspace(-1, 1, 2 * of, dtype=torch.float64).view(of, 2).sin()


def weight_of_codes(m, x):
    return m.wide(F.linear(torch.tanh(m.data(x.mean(1))), m.codes(codes())))


def product_of_codes(m, x):
    return m.wide(torch.tanh(m.data(x.mean(1))) @ m.codes(codes()).t())


def kernel_of_codes(m, x):
    return m.wide(F.conv1d(m.data(x).transpose(1, 2), m.codes(codes())[:, :, None]).mean(2))


def scale_of_codes(m, x):
    wide = F.pad(x.mean(1), (0, N - D))
    return m.wide(F.layer_norm(wide, (N,), m.codes(codes()).mean(1)))


def masked_weight(m, x):
    mask = (torch.arange(len(m.more.weight) * D) % 3 > 0).view(-1, D)
    return F.linear(x.mean(1), m.more.weight * mask, m.more.bias)[:, :H]


CHANCE = {one.__name__: one for one in (positions_by_a_map, positions_by_a_table, positions_of_one, weight_of_codes,
                                        product_of_codes, kernel_of_codes, scale_of_codes, masked_weight)}  # fmt: skip


def data(n=N, steps=T):
    torch.manual_seed(1)
    return torch.randn(n, steps, D, dtype=torch.float64), torch.arange(n) % 3


@matrix("name,way", FIRST, WAYS)
def test_first_states_of_a_loop(name, way):
    require_equal(way, Elman(FIRST[name]).double(), *data())


@matrix("name,way", PROGRAMS, WAYS)
def test_constants_of_every_sample(name, way):
    require_equal(way, Parts(PROGRAMS[name]).double(), *data())


@matrix("name,way", CHANCE, WAYS)
def test_as_many_as_samples_by_chance(name, way):
    of = 3 * H if CHANCE[name] is masked_weight else N
    require_equal(way, Parts(CHANCE[name]).double(), *data(of, N))


def test_a_guess_that_fitted_is_the_first_of_the_next_call():
    guesses = Guesses()
    guesses.begin()
    assert guesses.axis(torch.zeros(N, 2), N) == Axis(0)
    assert guesses.axis(torch.zeros(N), N) is None
    assert guesses.another()
    assert guesses.axis(torch.zeros(N, 2), N) is None
    guesses.begin()
    assert guesses.axis(torch.zeros(N, 2), N) is None
    assert [guesses.another() for _ in Guess] == [True, True, False]
    assert guesses.axis(torch.zeros(1, N), N) is None


def test_nothing_is_guessed_again_where_nothing_was_guessed():
    guesses = Guesses()
    guesses.begin()
    assert guesses.axis(torch.zeros(N + 1, 2), N) is None
    assert not guesses.another()
