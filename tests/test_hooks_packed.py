"""Packed sequences by hooks: every kind, option, order and way of packing, against single samples alone."""

import pytest
import torch
from every_quantity import require_equal
from matrices import matrix
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.capture.follow.indexing import axis_of_numbers
from gradkernels.engines.hooks.capture.sample_axis import Axis, SamplePermutation
from gradkernels.engines.hooks.errors import Unfit

N, T, D, H = 6, 5, 3, 4
LENGTHS = torch.tensor([2, 5, 1, 3, 5, 2])
KINDS = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 2}),
}
OPTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "two layers": {"num_layers": 2},
    "both directions": {"bidirectional": True},
    "deep": {"num_layers": 3, "bidirectional": True},
}


class Packed(nn.Module):
    """A layer on packed sequences: all outputs, the last states and an LSTM's last cells are read, or some of these."""

    def __init__(self, kind, read="oec", begin=None, batch_first=True, is_sorted=False, **options):
        super().__init__()
        torch.manual_seed(0)
        of, more = KINDS[kind]
        self.inputs, self.layer = nn.Linear(D, D), of(D, H, batch_first=batch_first, **more, **options)
        self.read, self.begin, self.is_sorted = read, begin, is_sorted
        state = more.get("proj_size", H)
        depth = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        self.sizes = [state, H] if of is nn.LSTM else [state]
        self.first = nn.ParameterList([torch.randn(depth, 1, size) for size in self.sizes])
        self.of_data = nn.ModuleList([nn.Linear(D, depth * size) for size in self.sizes])
        wide = state * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(wide + depth * sum(self.sizes), 3)

    def forward(self, x, lengths):
        z = torch.tanh(self.inputs(x))
        z = z if self.layer.batch_first else z.transpose(0, 1)
        packed = pack_padded_sequence(z, lengths, self.layer.batch_first, self.is_sorted)
        states, ends = self.layer(packed, self.states(x))
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])
        ends = ends if isinstance(ends, tuple) else (ends,)
        parts = [(states * torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype)[:, None]).sum(1)]
        parts += [one.transpose(0, 1).flatten(1) for one in ends]
        return self.head(torch.cat([part if name in self.read else 0 * part.detach()
                                    for name, part in zip("oec", parts, strict=False)], 1))  # fmt: skip

    def states(self, x):
        if self.begin is None:
            return None
        if self.begin == "learned":
            first = [one.expand(-1, len(x), -1).contiguous() for one in self.first]
        else:
            parts = zip(self.of_data, self.sizes, strict=True)
            first = [one(x[:, 0]).view(len(x), -1, size).transpose(0, 1).contiguous() for one, size in parts]
        return tuple(first) if len(first) > 1 else first[0]


def data(lengths=LENGTHS, n=N, steps=T):
    torch.manual_seed(1)
    return (torch.randn(n, steps, D, dtype=torch.float64), lengths), torch.arange(n) % 3


def agree(model, lengths=LENGTHS, **settings):
    (x, lengths), y = data(lengths, len(lengths))
    require_equal("hooks", model.double(), (x, lengths), y, **settings)


@matrix("kind,options", KINDS, OPTIONS)
def test_layers_with_their_options(kind, options):
    agree(Packed(kind, **OPTIONS[options]))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_sorted_by_the_caller(kind, batch_first):
    model = Packed(kind, batch_first=batch_first, is_sorted=True, num_layers=2, bidirectional=True)
    agree(model, LENGTHS.sort(descending=True).values)


@matrix("kind,begin", KINDS, ["learned", "data"])
def test_states_to_begin_with(kind, begin):
    agree(Packed(kind, begin=begin, batch_first=False, num_layers=2, bidirectional=True))


@pytest.mark.parametrize("read", ["o", "e", "c"])
def test_one_of_the_outputs(read):
    agree(Packed("projected", read, begin="data", bidirectional=True))
    if read != "c":
        agree(Packed("gru", read, begin="data", bidirectional=True))


@pytest.mark.parametrize("lengths", [[1, 1, 1], [5, 5], [5, 1], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 1]], ids=str)
def test_lengths(lengths):
    agree(Packed("lstm", begin="learned", num_layers=2, bidirectional=True), torch.tensor(lengths))


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "clipped_sum"])
def test_chunks_of_samples(quantity):
    problem = gk.ModuleProblem(Packed("gru").double(), nn.CrossEntropyLoss())
    given, of = (problem.parameters(), *data()), getattr(quantities, quantity)
    torch.testing.assert_close(of(problem, 4)(*given), of(problem, 99)(*given), rtol=1e-10, atol=1e-12)


class Program(nn.Module):
    """Words, lengths that follow from them, and a way to get to the outputs."""

    def __init__(self, program):
        super().__init__()
        torch.manual_seed(0)
        self.program, self.words = program, nn.Embedding(9, D, padding_idx=0)
        self.layer, self.head = nn.GRU(D, H, batch_first=True), nn.Linear(H, 3)
        self.map, self.norm, self.scale = nn.Linear(D, D), nn.LayerNorm(D), nn.Parameter(torch.rand(D))

    def forward(self, ids):
        return self.head(self.program(self, ids, (ids > 0).sum(1)))


def last_state(m, ids, lengths):
    return m.layer(pack_padded_sequence(m.words(ids), lengths.cpu(), True, False))[1][-1]


def lengths_in_a_list(m, ids, lengths):
    return m.layer(pack_padded_sequence(m.words(ids), lengths.tolist(), True, False))[1][-1]


def sorted_by_hand(m, ids, lengths):
    lengths, order = lengths.sort(descending=True)
    states, _ = m.layer(pack_padded_sequence(m.words(ids[order]), lengths, True))
    states = pad_packed_sequence(states, True)[0]
    return states[torch.arange(len(ids)), lengths - 1][order.argsort()]


def sorted_by_index_select(m, ids, lengths):
    order = torch.argsort(lengths, descending=True)
    end = m.layer(pack_padded_sequence(m.words(ids).index_select(0, order), lengths[order], True))[1]
    return end.index_select(1, torch.argsort(order)).squeeze(0)


def mean_of_states(m, ids, lengths):
    states, known = pad_packed_sequence(last_packed(m, m.words(ids), lengths), batch_first=True)
    return states.sum(1) / known[:, None]


def last_packed(m, x, lengths):
    return m.layer(pack_padded_sequence(x, lengths, True, False))[0]


def packed_words(m, ids, lengths):
    packed = pack_padded_sequence(ids, lengths, True, False)
    return m.layer(packed._replace(data=m.words(packed.data)))[1][-1]


def work_on_packed_steps(m, ids, lengths):
    packed = pack_padded_sequence(m.words(ids), lengths, True, False)
    steps = m.norm(torch.tanh(m.map(packed.data)) * m.scale + m.scale)
    steps = torch.cat([steps[:, 1:], steps[:, :1] + packed.data.view(-1, D, 1).squeeze(2)[:, :1]], 1)
    return m.layer(packed._replace(data=steps @ m.map.weight))[1][-1]


def two_layers(m, ids, lengths):
    states = last_packed(m, m.words(ids), lengths)
    again = m.layer(states._replace(data=states.data[:, :D]))[1][-1]
    return again + pad_packed_sequence(states, True, total_length=ids.shape[1])[0].amax(1)


PROGRAMS = {one.__name__: one for one in (last_state, lengths_in_a_list, sorted_by_hand, sorted_by_index_select,
                                          mean_of_states, packed_words, work_on_packed_steps, two_layers)}  # fmt: skip


def words():
    torch.manual_seed(1)
    return torch.randint(1, 9, (N, T)) * (torch.arange(T) < LENGTHS[:, None]), torch.arange(N) % 3


@pytest.mark.parametrize("name", PROGRAMS)
def test_ways_to_pack_and_back(name):
    require_equal("hooks", Program(PROGRAMS[name]).double(), *words())


def never_put_back(m, ids, lengths):
    lengths, order = lengths.sort(descending=True)
    return m.layer(pack_padded_sequence(m.words(ids[order]), lengths, True))[1][-1]


def sum_of_packed(m, ids, lengths):
    return m.layer(m.words(ids))[1][-1] + last_packed(m, m.words(ids), lengths).data.sum(0)


def states_in_another_order(m, ids, lengths):
    packed = pack_padded_sequence(m.words(ids), lengths, True, False)
    first = m.layer(m.words(ids))[1]
    return torch.gru(packed.data, packed.batch_sizes, first, m.layer._flat_weights, True, 1, 0.0, False, False)[1][-1]


@pytest.mark.parametrize("program", [never_put_back, sum_of_packed, states_in_another_order])
def test_what_brings_samples_together_is_refused(program):
    problem = gk.ModuleProblem(Program(program).double(), nn.CrossEntropyLoss())
    x, y = words()
    for quantity in ("per_sample", "norms", "clipped_sum", "moments", "gradient"):
        with pytest.raises(Unfit):
            gk.kernel(f"torch.hooks.{quantity}").build(problem)(problem.parameters(), x, y)


def test_dropout_is_each_samples_own_or_refused():
    options = {"num_layers": 2, "dropout": 0.5}
    (x, lengths), y = data()
    given = {"x": (x, lengths), "y": y}
    different = gk.ModuleProblem(Packed("gru", **options).double(), nn.CrossEntropyLoss(), randomness="different")
    build = gk.kernel("torch.hooks.per_sample").build
    rows = build(different)(different.parameters(), *given.values())
    repeated = build(different)(different.parameters(), *given.values())
    torch.testing.assert_close(rows, repeated, rtol=0, atol=0)
    torch.testing.assert_close(
        {name: one.mean(0) for name, one in rows.items()},
        gk.kernel("torch.hooks.gradient").build(different)(different.parameters(), *given.values()),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip
    same = gk.ModuleProblem(different.model, nn.CrossEntropyLoss(), randomness="same")
    with pytest.raises(Unfit, match="one draw of all samples"):
        build(same)(same.parameters(), *given.values())


def test_a_recording_says_that_lengths_are_data():
    problem = gk.ModuleProblem(Packed("lstm", is_sorted=True).double(), nn.CrossEntropyLoss())
    given = problem.parameters(), *data(LENGTHS.sort(descending=True).values)
    for quantity in ("per_sample", "norms", "clipped_sum", "moments", "gradient"):
        with pytest.raises(Unfit, match="the model's Python asks what its data hold"):
            gk.kernel(f"torch.recorded.{quantity}").build(problem)(*given)


def test_the_library_computes_by_what_can():
    problem = gk.ModuleProblem(Packed("lstm").double(), nn.CrossEntropyLoss())
    x, y = data()
    torch.testing.assert_close(
        gk.per_sample(problem, None, x, y), gk.per_sample(problem, None, x, y, kernel="torch.loop"),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


def test_padding_after_the_end_is_never_computed_with():
    model = Packed("relu", begin="learned", bidirectional=True).double()
    with torch.no_grad():
        for one in model.layer.parameters():
            one.mul_(1e3)
    (x, lengths), _ = data(torch.tensor([3] + [1] * (N - 1)), steps=200)
    problem = gk.ModuleProblem(model, nn.MSELoss())
    found = gk.kernel("torch.hooks.per_sample").build(problem)(
        problem.parameters(), (x, lengths), torch.zeros(N, 3).double()
    )
    assert all(one.isfinite().all() for one in found.values())


def test_packed_steps_belong_to_their_samples():
    packed = Axis(0, order=SamplePermutation(torch.tensor([2, 0, 1]), (3, 2, 1)))
    assert packed.numbers((6, 1), 3, torch.device("cpu")).flatten().tolist() == [2, 0, 1, 2, 0, 2]
    steps = torch.tensor([10.0, 20, 30, 11, 21, 12])
    assert packed.first(steps, 3).tolist() == [[20, 21, 0], [30, 0, 0], [10, 11, 12]]
    assert packed.fits((6, 4), 3)
    assert not packed.fits((3, 4), 3)
    assert Axis(1, order=SamplePermutation(torch.tensor([2, 0, 1]))).first(steps[None, :3], 3).flatten().tolist() == [
        20,
        30,
        10,
    ]


def test_an_axis_of_numbers():
    numbers = torch.tensor([[2, 2], [0, 0], [1, 1]])
    assert axis_of_numbers(numbers, 0, 3) == Axis(0, order=SamplePermutation(torch.tensor([2, 0, 1])))
    assert axis_of_numbers(numbers.sort(0).values, 0, 3) == Axis(0)
    assert axis_of_numbers(torch.tensor([0, 0, 2]), 0, 3) is None
    assert axis_of_numbers(torch.tensor([[0, 1], [1, 0], [2, 2]]), 0, 3) is None
    assert axis_of_numbers(numbers, 0, 3) != Axis(0, order=SamplePermutation(torch.tensor([1, 0, 2])))
