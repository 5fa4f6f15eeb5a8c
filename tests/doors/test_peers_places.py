"""Samples that change places: libraries that go by the place of a sample are refused for those batches."""

import pytest
import torch
from peer_keys import KEYS, OPACUS
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit

pytest.importorskip("opacus")
pytest.importorskip("backpack")

EQUAL, SORTED, MIXED = [5, 5, 5, 5, 5, 5], [5, 4, 4, 3, 2, 1], [5, 5, 5, 2, 4, 3]
Y = torch.tensor([0, 2, 1, 0, 2, 1])


def data(lengths):
    x = torch.linspace(-3, 3, 6 * 5 * 4, dtype=torch.float64).mul(7).sin().reshape(6, 5, 4)
    return x, torch.tensor(lengths)


def problem(kind, loss=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return gk.ModuleProblem(kind().double(), loss or nn.CrossEntropyLoss())


def rows_of(problem, x, y):
    """Rows `(n, p)` by one backward pass of torch for each sample."""
    parameters, rows = list(problem.parameters().values()), []
    for i in range(len(y)):
        output = problem.model(*(one[i : i + 1] for one in x))
        loss = problem.loss_fn(output, y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def require_right(key, problem, got, x, y=Y):
    """What a kernel gave follows from the rows."""
    rows = rows_of(problem, x, y)
    if key.endswith("per_sample"):
        torch.testing.assert_close(torch.cat([got[name].flatten(1) for name in problem.parameters()], 1), rows)
    elif key.endswith("norms"):
        torch.testing.assert_close(got, rows.norm(dim=1))
    elif key.endswith("clipped_sum"):
        clipped = (rows / rows.norm(dim=1, keepdim=True).clip(min=1.0)).sum(0)
        torch.testing.assert_close(torch.cat([got[name].flatten() for name in problem.parameters()]), clipped)
    else:
        torch.testing.assert_close(
            torch.cat([got.variance[n].flatten() for n in problem.parameters()]), rows.var(0, False)
        )


class Sorting(nn.Module):
    """Sorts by length, and back."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x, n):
        n, order = n.sort(descending=True, stable=True)
        return torch.tanh(self.inner(x[order]))[torch.arange(len(n)), n - 1][order.argsort()]


class Branching(Sorting):
    """Turns the batch around, and back, where Python sees that some are longer."""

    def forward(self, x, n):
        h = torch.tanh(self.inner(x if n.tolist() == EQUAL else x.flip(0)))
        return (h if n.tolist() == EQUAL else h.flip(0))[:, 0]


class Scattered(Sorting):
    """Sorts by a product with a matrix of zeros and ones."""

    def forward(self, x, n):
        order = nn.functional.one_hot((n + torch.linspace(0.5, 0, len(n))).argsort(descending=True), len(n)).to(x.dtype)
        return order.T @ torch.tanh(self.inner((order @ x.flatten(1)).unflatten(1, (5, 4))))[:, 0]


class Packing(nn.Module):
    """A recurrent layer over packed sequences."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x, n):
        return self.head(self.inner(pack_padded_sequence(x, n, True, enforce_sorted=False))[1][0][-1])


class Sorted(Packing):
    """The same of what is sorted already."""

    def forward(self, x, n):
        return self.head(self.inner(pack_padded_sequence(x, n, True))[1][0][-1])


class Packed(Sorting):
    """A linear map of what is in a packed sequence."""

    def forward(self, x, n):
        packed = pack_padded_sequence(x, n, True, enforce_sorted=False)
        packed = packed._replace(data=torch.tanh(self.inner(packed.data)))
        return pad_packed_sequence(packed, True, total_length=5)[0].sum(1)


class Picking(Sorting):
    """Drops what is padding before a layer, and puts it back."""

    def forward(self, x, n):
        mask = torch.arange(5)[None] < n[:, None]
        h = torch.zeros(*mask.shape, 3, dtype=x.dtype)
        h[mask] = torch.tanh(self.inner(x[mask]))
        return h.sum(1)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", [Sorting, Branching, Scattered])
def test_a_batch_that_stays_in_order_says_nothing_about_the_next(kind, key):
    of = problem(kind)
    compute = gk.kernel(key).build(of)
    require_right(key, of, compute(of.parameters(), data(EQUAL), Y), data(EQUAL))
    for _ in range(2):
        with pytest.raises(Unfit, match=r"for the i-th sample, but in what inner takes a sample has the place of ano"):
            compute(of.parameters(), data(MIXED), Y)
        require_right(key, of, compute(of.parameters(), data(EQUAL), Y), data(EQUAL))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("lengths", [EQUAL, SORTED, MIXED], ids=["equal", "sorted", "mixed"])
def test_what_is_packed_or_picked_has_no_axis_of_samples(lengths, key):
    for kind in (Packing, Sorted, Packed, Picking):
        of = problem(kind)
        if kind is not Sorted or lengths is not MIXED:
            with pytest.raises(Unfit, match=r"inner takes (a packed sequence|\(\d+, 4\), in which no axis 0 holds)"):
                gk.kernel(key).build(of)(of.parameters(), data(lengths), Y)


class Steps(nn.Module):
    """Recurrent layers with steps first, whose last states are used too."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.head = nn.LSTM(4, 3), nn.GRU(3, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x, n):
        h, (state, _) = self.lstm(x.transpose(0, 1))
        return self.head(self.gru(h.transpose(0, 1))[1][0] + state[0])


@pytest.mark.parametrize("key", OPACUS)
def test_samples_may_lie_along_the_second_axis_of_a_recurrent_layer(key):
    of = problem(Steps)
    require_right(key, of, gk.kernel(key).build(of)(of.parameters(), data(MIXED), Y), data(MIXED))


class Plain(Sorting):
    """Calls nothing that looks at what data hold."""

    def forward(self, x, n):
        return torch.tanh(self.inner(x)).sum(1) / n[:, None]


class Weighted(Plain):
    """Takes a number for each sample."""

    def forward(self, x, weight):
        return super().forward(x, weight.exp())


@pytest.mark.parametrize("key", KEYS)
def test_an_input_may_have_the_samples_alone(key):
    of, x = problem(Weighted), (data(EQUAL)[0], torch.linspace(-1, 1, 6, dtype=torch.float64))
    require_right(key, of, gk.kernel(key).build(of)(of.parameters(), x, Y), x)


class Idle(Plain):
    """The same, where nothing goes on for a negative sum."""

    def forward(self, x, n):
        return torch.relu(super().forward(x, n) - 10)


def by_length(x, n, back):
    with torch._C.DisableTorchFunction():  # as code in C++ does
        order = n.sort(stable=True, descending=True)[1]
        return x[order.argsort() if back else order]


class Hidden(Plain):
    """Sorts where no mode of torch's functions looks."""

    def forward(self, x, n):
        return by_length(torch.tanh(self.inner(by_length(x, n, False))).sum(1), n, True)


@pytest.mark.parametrize(("kind", "looks"), [(Plain, 2), (Hidden, 4), (Sorting, 4), (Idle, 4)])
def test_one_look_is_enough_where_shapes_alone_decide(kind, looks, monkeypatch):
    from gradkernels.engines.peers.sample_order import SampleOrder

    counted, require = [], SampleOrder.require
    monkeypatch.setattr(SampleOrder, "require", lambda *given: counted.append(1) or require(*given))
    of = problem(kind)
    compute = gk.kernel("opacus.hooks.per_sample").build(of)
    for lengths in (EQUAL, SORTED, EQUAL):  # in all of which each has its place
        require_right("per_sample", of, compute(of.parameters(), data(lengths), Y), data(lengths))
    of.model.train(not of.model.training)
    compute(of.parameters(), data(EQUAL), Y)
    assert len(counted) == looks


def test_weights_differ_by_more_than_rounding():
    from gradkernels.engines.peers.sample_order import distinct_weights

    weights = distinct_weights(2000, torch.zeros(0)).sort().values
    assert weights[0] >= 1
    assert weights[-1] < 2
    assert weights.diff().min() > 2e-4


class Dropping(Sorting):
    def forward(self, x, n):
        return nn.functional.dropout(self.inner(x).sum(1), 0.5, self.training)


@pytest.mark.parametrize("key", KEYS)
def test_draws_are_refused_and_taken_back(key):
    of = problem(Dropping)
    compute = gk.kernel(key).build(of)
    before = torch.get_rng_state()
    with pytest.raises(Unfit, match=r"^the model draws random numbers, which randomness='error' refuses: call"):
        compute(of.parameters(), data(EQUAL), Y)
    assert torch.equal(torch.get_rng_state(), before)
    of.model.eval()
    require_right(key, of, compute(of.parameters(), data(EQUAL), Y), data(EQUAL))


def test_a_gradient_that_is_no_number_is_no_other_samples():
    of = problem(Plain)
    x, n = data(EQUAL)
    x[2] = float("nan")
    got = gk.kernel("opacus.hooks.per_sample").build(of)(of.parameters(), (x, n), Y)
    rows = got["inner.weight"].flatten(1)
    assert rows.isnan().any(1).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_dtype_is_looked_at_with_its_own_rounding(dtype):
    for kind, fits in ((Plain, True), (Sorting, False)):
        of = problem(kind)
        of.model.to(dtype)
        x, n = data(MIXED)
        compute = gk.kernel("opacus.hooks.per_sample").build(of)
        if fits:
            assert compute(of.parameters(), (x.to(dtype), n), Y)["inner.bias"].dtype == dtype
        else:
            with pytest.raises(Unfit, match="has the place of another"):
                compute(of.parameters(), (x.to(dtype), n), Y)


def test_a_choice_goes_around_them():
    for kind in (Sorting, Packing):
        of = problem(kind)
        for lengths in (EQUAL, MIXED, SORTED):
            got = gk.norms(of, None, data(lengths), Y)
            torch.testing.assert_close(got, rows_of(of, data(lengths), Y).norm(dim=1))


class Rounded(Sorting):
    """Goes through a dtype of less precision on the way."""

    dtype = torch.float32

    def forward(self, x, n):
        return torch.tanh(self.inner(x)).to(self.dtype).cos().to(x.dtype).sum(1)


class Coarse(Rounded):
    dtype = torch.bfloat16


def test_rounding_inside_a_model_is_no_change_of_place():
    of = problem(Rounded)
    got = gk.kernel("opacus.ghost.norms").build(of)(of.parameters(), data(EQUAL), Y)
    torch.testing.assert_close(got, rows_of(of, data(EQUAL), Y).norm(dim=1), rtol=1e-5, atol=0)
    of = problem(Coarse)
    with pytest.raises(Unfit, match=r"but the rounding of what .* is so coarse that the samples cannot be"):
        gk.kernel("opacus.ghost.norms").build(of)(of.parameters(), data(EQUAL), Y)
