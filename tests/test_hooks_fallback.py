"""What has no rule of its own: raw parameters, parametrizations, ties, draws; and what is refused, in a sentence."""

import pytest
import torch
from layers import STEPS, STEPS_BEFORE, Case, Outputs, Placed
from test_hooks_layers import LOSS, MANY, agree
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.module_problem import ModuleProblem


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(45)


class Raw(nn.Module):
    """A token before the sequence, positions, products with matrices, a slice of a weight, a layer used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.positions = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(4, 4))
        self.matrix, self.scale = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))
        self.words, self.layer = nn.Embedding(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = self.layer(x) + self.words(torch.arange(3))
        h = torch.cat([self.first.expand(len(x), -1, -1), h], 1) + self.positions
        h = torch.tanh(h @ self.matrix) * self.scale
        h = self.layer(h.transpose(0, 1)).transpose(0, 1)
        return functional.linear(h.mean(1), self.matrix[:3])


class Tied(nn.Module):
    """Words in and out by one table."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(3, 4), nn.Linear(4, 3, bias=False)
        self.out.weight = self.words.weight

    def forward(self, tokens):
        return self.out(self.words(tokens).tanh().sum(1))


class Slices(nn.Module):
    """Three uses of overlapping blocks of one weight, one of its columns, and a block that is not used."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 4))

    def forward(self, x):
        first, second = functional.linear(x, self.weight[:3]), functional.linear(x, self.weight[2:5])
        return first * second.tanh() + functional.linear(x, self.weight[6:8]).sum(1, keepdim=True)


class Columns(nn.Module):
    """Blocks beside a slice that is no block."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        return functional.linear(x, self.weight[1:4]) + functional.linear(x[:, :2], self.weight[2:5, :2]).tanh()


class Blocks(nn.Module):
    """Two blocks apart."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 4))

    def forward(self, x):
        return functional.linear(x, self.weight[3:6]).tanh() * functional.linear(x, self.weight[:3])


class Built(nn.Module):
    """A matrix that parameters are written into, some of them twice."""

    def __init__(self):
        super().__init__()
        self.corner, self.scale = nn.Parameter(torch.randn(2, 2)), nn.Parameter(torch.randn(4))

    def forward(self, x):
        matrix = torch.eye(4, dtype=x.dtype)
        matrix[:2, :2] = self.corner
        matrix[2:, 1:3] = self.corner * 2
        matrix.mul_(self.scale)
        return functional.linear(x, matrix)[:, :3]


class Stopped(nn.Module):
    """A weight that one of its uses has no gradient for."""

    def __init__(self):
        super().__init__()
        self.weight, self.other = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        with torch.no_grad():
            doubled = self.other * 2
        first = functional.linear(x, self.weight) * functional.linear(x, self.weight.detach())
        return first + functional.linear(x, doubled) + functional.linear(x * self.weight[0], self.other)


def _in_place():
    layers = nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 5), nn.ELU(inplace=True)
    return nn.Sequential(*layers, nn.Linear(5, 3))


def _frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    return model


def _zeros():
    """Outputs that are all the same do not tell in which order the samples are."""
    middle = nn.Linear(4, 4)
    nn.init.zeros_(middle.weight)
    nn.init.zeros_(middle.bias)
    return nn.Sequential(middle, nn.Linear(4, 2))


MODELS = {
    "raw": (Raw, (3, 4)),
    "overlapping slices": (Slices, (4,)),
    "columns": (Columns, (4,)),
    "blocks": (Blocks, (4,)),
    "in place": (_in_place, (4,)),
    "frozen": (_frozen, (4,)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 3)), (4,)),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 3)), (4,)),
    "stopped": (Stopped, (4,)),
    "built": (Built, (4,)),
    "zeros, steps merged": (lambda: nn.Sequential(Placed(_zeros(), STEPS), Outputs()), (3, 4)),
    "zeros, samples last": (lambda: nn.Sequential(Placed(_zeros(), STEPS_BEFORE), Outputs()), (3, 4)),
}


@pytest.mark.parametrize("n", [1, 3, 4, 7])
@pytest.mark.parametrize("name", MODELS)
def test_model_without_a_rule(name, n):
    make, shape = MODELS[name]
    agree(make().double().eval(), torch.randn(n, *shape, dtype=torch.float64), chunk=3 if n == 7 else MANY)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_tied_table(n):
    agree(Tied().double(), torch.randint(3, (n, 4)))


def test_a_bag_of_nothing_but_padding_has_no_gradient():
    for mode in ("sum", "mean", "max"):
        model = nn.EmbeddingBag(5, 3, mode=mode, padding_idx=0).double()
        problem = ModuleProblem(model, LOSS)
        given = problem.parameters(), torch.tensor([[0, 0], [0, 2]]), torch.tensor([0, 1])
        rows = quantities.per_sample(problem, MANY)(*given)["weight"]
        assert not rows[0].any()
        assert rows[1].any(1).tolist() == [False, False, True, False, False]
        assert quantities.norms(problem, MANY)(*given)[0] == 0


class Dropped(nn.Module):
    """Dropout of entries before and of channels after a convolution."""

    def __init__(self, inplace):
        super().__init__()
        self.first, self.drop = nn.Linear(4, 4), nn.Dropout(0.4, inplace)
        self.second, self.channels = nn.Conv1d(3, 6, 2), nn.Dropout1d(0.4, inplace)

    def forward(self, x):
        return self.channels(self.second(self.drop(self.first(x))))


class Attended(nn.Module):
    """Attention with dropout."""

    def __init__(self, weights, causal=False):
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(4, 2, dropout=0.4, batch_first=True), weights
        self.causal = causal

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        if not self.causal:
            mask = mask != 0
        given = {"need_weights": self.weights, "attn_mask": mask, "is_causal": self.causal}
        return self.attention(x, x, x, **given)[0]


class Grouped(nn.Module):
    """Attention of four heads of queries to two heads of keys and values."""

    def __init__(self, **options):
        super().__init__()
        self.query, self.pair, self.options = nn.Linear(4, 8), nn.Linear(4, 4), options

    def forward(self, x):
        query, pair = (layer(x).unflatten(-1, (-1, 2)).transpose(1, 2) for layer in (self.query, self.pair))
        return functional.scaled_dot_product_attention(
            query, pair, pair.sin(), dropout_p=0.4, enable_gqa=True, **self.options
        )


class OnlyLast(nn.Module):
    """Three outputs of a recurrent network with dropout between its layers."""

    def __init__(self, kind, **options):
        super().__init__()
        self.recurrent = kind(4, 3, 3, dropout=0.4, batch_first=True, **options)

    def forward(self, x):
        return self.recurrent(x)[0]


DRAWS = {
    "in place": Case(lambda: Dropped(True), (3, 4)),
    "not in place": Case(lambda: Dropped(False), (3, 4), layouts=(STEPS, STEPS_BEFORE)),
    "images": Case(lambda: nn.Sequential(nn.Conv2d(2, 4, 2), nn.Dropout2d(0.4)), (2, 4, 4)),
    "volumes": Case(lambda: nn.Sequential(nn.Conv3d(2, 4, 2), nn.Dropout3d(0.4)), (2, 3, 3, 4)),
    "attention": Case(lambda: Attended(False), (3, 4)),
    "causal attention": Case(lambda: Attended(False, True), (3, 4)),
    "attention with weights": Case(lambda: Attended(True), (3, 4)),
    "grouped queries": Case(Grouped, (3, 4)),
    "grouped queries, own scale": Case(lambda: Grouped(scale=0.3, is_causal=True), (3, 4)),
    "transformer": Case(lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.4, batch_first=True), (3, 4)),
    "lstm": Case(lambda: OnlyLast(nn.LSTM), (3, 4)),
    "gru both ways": Case(lambda: OnlyLast(nn.GRU, bidirectional=True), (3, 4)),
}


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize("name", DRAWS)
def test_one_draw_for_every_sample(name, n):
    """Equal to a loop that sets the seed before each sample."""
    for layout in DRAWS[name].layouts:
        model, x = DRAWS[name].model(layout).train(), DRAWS[name].x(n, layout)
        y = torch.randint(3, (n,))
        want = [_row(model, x[i : i + 1], y[i : i + 1], seed=5) for i in range(n)]
        for chunk in (2, MANY):
            problem = ModuleProblem(model, LOSS, randomness="same", seed=5)
            rows = quantities.per_sample(problem, chunk)(problem.parameters(), x, y)
            flat = torch.cat([row.flatten(1) for row in rows.values()], 1)
            torch.testing.assert_close(flat, torch.stack(want), rtol=1e-10, atol=1e-12)


def _row(model, x, y, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = torch.autograd.grad(LOSS(model(x), y), list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def test_draws_leave_the_generator_as_it_is():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    problem, before = ModuleProblem(model, LOSS, randomness="same"), torch.random.get_rng_state()
    quantities.per_sample(problem, MANY)(problem.parameters(), torch.ones(3, 4), torch.tensor([0, 1, 2]))
    assert torch.equal(torch.random.get_rng_state(), before)


def module(function, *shape):
    """A module that is one function of its parameter and x."""

    class Function(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(shape))

        def forward(self, x):
            return function(self.weight, x)

    return Function()


def _one_offset(weight, words):
    offsets = torch.arange(0, words.numel(), 2)
    return functional.embedding_bag(words.flatten(), weight, offsets)


def _routed(weight, x):
    chosen = x[:, 0] > 0
    return x.index_put((chosen,), x[chosen] * weight)


def _through_a_view(weight, x):
    sums = torch.zeros(2, 3)
    sums[0].copy_(weight)
    return x * sums.sum(0)


def _filled(weight, x):
    x = x.clone()
    x[:, 0] = weight
    return x


WORDS, X = torch.randint(5, (4, 2)), torch.ones(4, 3)
REFUSED = {
    "embedding with max_norm changes its weights": (nn.Embedding(5, 3, max_norm=1.0), WORDS),
    "embedding with scale_grad_by_freq divides by": (nn.Embedding(5, 3, scale_grad_by_freq=True), WORDS),
    "embedding_bag with max_norm changes its weights": (nn.EmbeddingBag(5, 3, max_norm=1.0), WORDS),
    "embedding_bag with scale_grad_by_freq": (nn.EmbeddingBag(5, 3, scale_grad_by_freq=True), WORDS),
    "embedding_bag with offsets has no axis of samples": (module(_one_offset, 5, 3), WORDS),
    "batch_norm with the statistics of the batch": (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), X),
    "instance_norm updates its running statistics": (
        nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
        torch.randn(4, 2, 3),
    ),
    "__setitem__ changes data in place with a parameter": (module(_filled), X),
    "is computed from parameters where no call": (module(_through_a_view, 3), X),
    "mul_ changes data in place": (module(lambda w, x: x.clone().mul_(w), 3), X),
    "broadcast_tensors has several outputs": (module(lambda w, x: torch.broadcast_tensors(w, x)[0] * 1, 3), X),
    "einsum takes the samples together": (module(lambda w, x: x * torch.einsum("nd,d->d", x, w), 3), X),
    "index_put has no rule": (module(_routed, 3), torch.tensor([[1.0], [1.0], [1.0], [-1.0]]).expand(4, 3)),
    "cat lays samples one behind the other": (module(lambda w, x: torch.cat([x, w[None]])[:-1], 3), X),
    "mul cannot be called for one sample alone": (
        module(lambda w, x: (torch.ones(len(x) * 2, 3) * w).unflatten(0, (-1, 2)).sum(1) * x, 3),
        X,
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused_in_a_sentence(sentence):
    model, x = REFUSED[sentence]
    assert sentence in str(refusal(model, x))


def refusal(model, x, **settings):
    problem = ModuleProblem(model, LOSS, **settings)
    with pytest.raises(Unfit) as raised:
        quantities.per_sample(problem, 2)(problem.parameters(), x, torch.zeros(len(x), dtype=torch.int64))
    return raised.value


def test_other_draws_are_refused_where_all_samples_are_to_see_the_same():
    model = nn.Sequential(nn.Linear(3, 3), nn.RReLU())
    assert "draws random numbers for all samples together" in str(refusal(model, X, randomness="same"))
