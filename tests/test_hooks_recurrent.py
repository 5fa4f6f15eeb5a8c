"""Recurrent layers of torch.hooks: every kind and option against a loop of single samples, and an example by hand."""

import gc
import math

import matrices
import numpy as np
import pytest
import torch
from torch import nn

from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.rules.recurrent.cells import LstmLayer
from gradkernels.problems.module.module_problem import ModuleProblem

N, T, D, H, P = 4, 5, 3, 4, 2  # samples, steps, features, units, projected units
CHUNK = 1 << 20
SQUARE = nn.MSELoss(reduction="sum")

KINDS = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": P}),
}
OPTIONS = [
    {},
    {"bias": False},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]
CELLS = {
    "tanh": (nn.RNNCell, {}),
    "relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "gru": (nn.GRUCell, {}),
    "lstm": (nn.LSTMCell, {}),
}


def label(options):
    return "-".join(f"{name}={value}" for name, value in options.items()) or "plain"


class Reader(nn.Module):
    """A layer between linear maps, of whose outputs some are read: 0 all states, 1 the last ones, 2 the last cells."""

    def __init__(self, kind, read=(0, 1, 2), batch_first=True, begin=None, **options):
        super().__init__()
        torch.manual_seed(2)
        of, more = KINDS[kind]
        self.inputs = nn.Linear(D, D)
        self.layer = of(D, H, batch_first=batch_first, **more, **options)
        self.read, self.begin = read, begin
        depth, state = (
            options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1),
            more.get("proj_size", H),
        )
        sizes = [state, H] if kind in ("lstm", "projected") else [state]
        if begin == "learned":
            self.first = nn.ParameterList([torch.randn(depth, 1, size) for size in sizes])
        elif begin == "data":
            self.first = nn.ModuleList([nn.Linear(D, depth * size) for size in sizes])
        self.double()

    def forward(self, x):
        z = self.inputs(x)
        if not self.layer.batch_first:
            z = z.transpose(0, 1)
        states, *ends = flat(self.layer(z, self.hx(x)))
        if self.layer.batch_first:
            states = states.transpose(0, 1)
        of = [(one * weights(one)).flatten(2).sum(0) for one in (states, *ends)]
        return torch.cat([of[i] for i in self.read if i < len(of)], 1)

    def hx(self, x):
        if self.begin is None:
            return None
        if self.begin == "learned":
            first = [one.expand(-1, len(x), -1) for one in self.first]
        else:
            first = [one(x[:, 0]).unflatten(1, (-1, self.layer.hidden_size)).transpose(0, 1) for one in self.first]
        return tuple(first) if len(first) > 1 else first[0].contiguous()


class Steps(nn.Module):
    """A cell that is called at every step."""

    def __init__(self, kind, given=True, **options):
        super().__init__()
        torch.manual_seed(2)
        of, more = CELLS[kind]
        self.inputs, self.cell, self.given = nn.Linear(D, D), of(D, H, **more, **options), given
        self.first = nn.Linear(D, H)
        self.double()

    def forward(self, x):
        first = self.first(x[:, 0])
        state = (first, first.tanh()) if isinstance(self.cell, nn.LSTMCell) else first
        state = state if self.given else None
        for t in range(x.shape[1]):
            state = self.cell(self.inputs(x[:, t]), state)
        return sum(state) if isinstance(state, tuple) else state


def flat(returned):
    """Output and ends of a layer in one list."""
    output, ends = returned
    return [output, *ends] if isinstance(ends, tuple) else [output, ends]


def weights(one):
    """Different ones for each step, or layer."""
    return torch.linspace(0.5, 2.0, len(one), dtype=one.dtype).view(-1, 1, 1)


def drawn(model, n=N, t=T):
    x = torch.randn(n, t, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = torch.randn(model(x).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return x, y


def matrix(gradients):
    return np.concatenate([one.numpy().reshape(len(one), -1) for one in gradients.values()], 1)


def vector(gradient):
    return np.concatenate([one.numpy().ravel() for one in gradient.values()])


def looped(problem, x, y):
    """One backward pass per sample through the model as it is."""
    rows = []
    for i in range(len(x)):
        with problem.seeded():
            loss = SQUARE(problem.model(x[i : i + 1]), y[i : i + 1])
        parts = torch.autograd.grad(
            loss, list(problem.parameters().values()), allow_unused=True, materialize_grads=True
        )
        rows.append(np.concatenate([part.numpy().ravel() for part in parts]))
    return np.array(rows)


def agree(model, n=N, t=T, **settings):
    """Every quantity against the loop's."""
    problem, (x, y) = ModuleProblem(model, SQUARE, reduction="sum", **settings), drawn(model, n, t)
    rows, own = looped(problem, x, y), problem.parameters()
    norms = np.linalg.norm(rows, axis=1)
    close(matrix(quantities.per_sample(problem, CHUNK)(own, x, y)), rows, norms[:, None])
    close(quantities.norms(problem, CHUNK)(own, x, y).numpy(), norms, norms)
    moments = quantities.moments(problem, CHUNK)(own, x, y)
    close(vector(moments.mean), rows.mean(0), norms.mean())
    close(vector(moments.variance), rows.var(0), (norms**2).mean())
    bound = float(np.median(norms))
    clipped = (rows * np.minimum(1, bound / np.maximum(norms, 1e-300))[:, None]).sum(0)
    for compute in (quantities.clipped_sum, quantities.reweighted_sum):
        close(vector(compute(problem, CHUNK)(own, x, y, max_norm=bound)), clipped, norms.sum())


def close(got, want, scale):
    assert got.shape == want.shape
    assert np.all(np.abs(got - want) <= 1e-10 * scale)


@matrices.matrix(
    "kind,options,batch_first", KINDS, OPTIONS, [True, False],
    occurring=lambda kind, options, batch_first: ((kind, batch_first), label(options)),
    ids=lambda value: label(value) if isinstance(value, dict) else str(value),
)  # fmt: skip
def test_layers_with_their_options(kind, options, batch_first):
    agree(Reader(kind, batch_first=batch_first, **options))


@pytest.mark.parametrize("read", [(0,), (1,)], ids=str)
@pytest.mark.parametrize("kind", ["tanh", "relu", "gru"])
def test_one_of_the_outputs(kind, read):
    agree(Reader(kind, read, num_layers=2, bidirectional=True))


@matrices.matrix("kind,read", ["lstm", "projected"], [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_any_of_the_outputs_of_an_lstm(kind, read):
    agree(Reader(kind, read, num_layers=2, bidirectional=True))


@pytest.mark.parametrize("begin", ["learned", "data"])
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_states_to_begin_with(kind, begin):
    agree(Reader(kind, begin=begin, num_layers=2, bidirectional=True))


def test_projected_states_to_begin_with_are_learned():
    agree(Reader("projected", begin="learned", bidirectional=True))


@matrices.matrix("kind,size", KINDS, [(1, T), (N, 1), (1, 1), (T, T)])
def test_one_sample_or_one_step_or_as_many(kind, size):
    n, t = size
    agree(Reader(kind, bidirectional=True), n, t)


@matrices.matrix("kind,given,bias", CELLS, [True, False], [True, False])
def test_cells_called_step_by_step(kind, given, bias):
    agree(Steps(kind, given, bias=bias))


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_that_is_called_once(kind):
    agree(Steps(kind), t=1)


def test_gradients_that_others_hear_too_are_not_written_to():
    class Beside(Steps):
        def forward(self, x):
            beside = self.first(x[:, 0])
            return beside + self.cell(x[:, 1])[1]

    agree(Beside("lstm"))


@pytest.mark.parametrize("trained", ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"])
def test_layers_with_one_trained_parameter(trained):
    model = Reader("projected")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    agree(model)


def test_the_whole_layer_frozen():
    model = Reader("gru")
    model.layer.requires_grad_(False)
    agree(model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_fed_with_data_alone(kind):
    model = Reader(kind, num_layers=2)
    model.inputs = nn.Identity()
    agree(model)


def test_a_layer_that_is_called_twice():
    class Twice(Reader):
        def forward(self, x):
            return self.layer(torch.nn.functional.pad(self.layer(x)[0], (0, D - P)))[0][:, -1]

    agree(Twice("projected"))


def test_two_layers_with_the_same_weights():
    model = Reader("lstm", num_layers=2, bidirectional=True)
    for name in ("weight_hh", "bias_ih"):
        setattr(model.layer, f"{name}_l1", getattr(model.layer, f"{name}_l0"))
        setattr(model.layer, f"{name}_l0_reverse", getattr(model.layer, f"{name}_l0"))
    agree(model)


def test_weights_made_from_others():
    model = Reader("gru")
    torch.nn.utils.parametrizations.weight_norm(model.layer, "weight_hh_l0")
    agree(model)


@pytest.mark.parametrize("slowest", [True, False], ids=["of_each_sample", "of_each_place"])
def test_several_sequences_a_sample(slowest):
    class Several(Reader):
        def forward(self, x):
            x = self.inputs(x)
            several = torch.stack([x, x.flip(1), x.cos()], 1 if slowest else 0).flatten(0, 1)
            return self.layer(several)[0][:, -1].unflatten(0, (len(x), 3) if slowest else (3, len(x))).sum(int(slowest))

    agree(Several("lstm"))


def test_the_model_may_write_to_what_it_is_given():
    class Writes(Reader):
        def forward(self, x):
            states, (last, _) = self.layer(x)
            return states.relu_()[:, -1] + last.mul_(2)[0]

    agree(Writes("lstm"))


def test_dropout_of_its_own_for_each_sample():
    """The sum of the rows is the gradient of torch's own call, which draws in the same order."""
    model = Reader("lstm", num_layers=3, dropout=0.5, bidirectional=True, batch_first=False)
    problem = ModuleProblem(model, SQUARE, reduction="sum", randomness="different", seed=4)
    x, y = drawn(model)
    with problem.seeded():
        parts = torch.autograd.grad(SQUARE(model(x), y), list(problem.parameters().values()))
    rows = matrix(quantities.per_sample(problem, CHUNK)(problem.parameters(), x, y))
    close(rows.sum(0), np.concatenate([part.numpy().ravel() for part in parts]), np.linalg.norm(rows, axis=1).sum())


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch_first", "steps_first"])
def test_one_dropout_for_all_samples(batch_first):
    agree(Reader("gru", num_layers=3, dropout=0.5, batch_first=batch_first), randomness="same", seed=4)


def test_dropout_is_off_in_eval_mode():
    agree(Reader("gru", num_layers=3, dropout=0.5).eval())


def one_unit(nonlinearity, w, u, b):
    model = nn.RNN(1, 1, batch_first=True, nonlinearity=nonlinearity).double()
    for parameter, value in zip(model.parameters(), (w, u, b, b), strict=True):
        nn.init.constant_(parameter, value)
    return model


class LastState(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0][:, -1]


def rows_by_hand(layer, x, y):
    problem = ModuleProblem(LastState(layer), SQUARE, reduction="sum")
    x, y = torch.tensor(x, dtype=torch.float64)[..., None], torch.tensor(y, dtype=torch.float64)[:, None]
    return matrix(quantities.per_sample(problem, CHUNK)(problem.parameters(), x, y))


def test_two_steps_of_one_unit_by_hand():
    """h1 = .5 x1 + .5, h2 = .5 x2 + 2 h1 + .5, (h2 - y)^2: states 1, 3.5 and, cut off once, 0, 1."""
    rows = rows_by_hand(one_unit("relu", 0.5, 2.0, 0.25), [[1.0, 2.0], [-3.0, 1.0]], [3.0, 0.0])
    # 2 (h2 - y) is 1 and 2; the first state has 2 and 0 of it; w: g2 x2 + g1 x1, u: g2 h1, biases: g2 + g1
    np.testing.assert_array_equal(rows, [[4.0, 1.0, 3.0, 3.0], [2.0, 0.0, 2.0, 2.0]])


def test_two_steps_of_one_tanh_by_hand():
    """h1 = tanh(.5), h2 = tanh(1 - h1), h2^2."""
    rows = rows_by_hand(one_unit("tanh", 0.5, -1.0, 0.0), [[1.0, 2.0]], [0.0])
    h1 = math.tanh(0.5)
    h2 = math.tanh(1 - h1)
    g2 = 2 * h2 * (1 - h2**2)
    g1 = -g2 * (1 - h1**2)
    np.testing.assert_allclose(rows, [[2 * g2 + g1, h1 * g2, g1 + g2, g1 + g2]], rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_no_samples(kind):
    problem = ModuleProblem(Reader(kind, bidirectional=True), SQUARE, reduction="sum")
    x, y = drawn(problem.model)
    own = problem.parameters()
    rows = quantities.per_sample(problem, CHUNK)(own, x[:0], y[:0])
    assert {name: tuple(one.shape) for name, one in rows.items()} == {
        name: (0, *one.shape) for name, one in own.items()
    }


def test_single_precision():
    model = Reader("lstm", num_layers=2, bidirectional=True)
    problem, (x, y) = ModuleProblem(model, SQUARE, reduction="sum"), drawn(model)
    want = looped(problem, x, y)
    model.float()
    rows = quantities.per_sample(problem, CHUNK)(problem.parameters(), x.float(), y.float())
    assert all(one.dtype == torch.float32 for one in rows.values())
    assert np.all(np.abs(matrix(rows) - want) <= 1e-5 * np.linalg.norm(want, axis=1, keepdims=True))


def test_the_model_is_left_as_found():
    model = Reader("projected", num_layers=2, bidirectional=True)
    before = {name: (one, one.clone(), one._version) for name, one in model.named_parameters()}
    flat_weights = list(model.layer._flat_weights)
    agree(model)
    for name, one in model.named_parameters():
        same, value, version = before[name]
        assert one is same
        assert one.grad is None
        assert not one._backward_hooks
        assert one._version == version
        assert torch.equal(one, value)
    assert all(one is other for one, other in zip(model.layer._flat_weights, flat_weights, strict=True))


def test_nothing_is_kept_alive_by_a_cycle():
    model = Reader("lstm", num_layers=2, bidirectional=True)
    problem, (x, y) = ModuleProblem(model, SQUARE, reduction="sum"), drawn(model)
    compute = quantities.per_sample(problem, CHUNK)
    gc.collect()
    gc.disable()
    try:
        compute(problem.parameters(), x, y)
        assert not [one for one in gc.get_objects() if type(one) is LstmLayer]
    finally:
        gc.enable()


def refused(model, x, y, says):
    problem = ModuleProblem(model, SQUARE, reduction="sum")
    with pytest.raises(Unfit, match=says):
        quantities.per_sample(problem, CHUNK)(problem.parameters(), x, y)


def test_a_layer_that_runs_along_the_samples_is_refused():
    class Along(Reader):
        def forward(self, x):
            return self.layer(x)[0].sum(1)

    x = torch.randn(N, T, D, dtype=torch.float64)
    refused(Along("gru", batch_first=False), x, torch.zeros(N, H, dtype=torch.float64), "batch_first")


def test_samples_as_the_steps_of_one_sequence_are_refused():
    class Unbatched(Reader):
        def forward(self, x):
            return self.layer(x[:, 0])[0]

    x = torch.randn(N, T, D, dtype=torch.float64)
    refused(Unbatched("tanh"), x, torch.zeros(N, H, dtype=torch.float64), "axis 1 of input")
