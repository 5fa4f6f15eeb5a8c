"""Quantities over batches are those of all samples at once, whatever the batches, and a bad batch is named."""

import threading
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
import torch
from models import oracle
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import gradkernels as gk
from gradkernels.batches.loading import progress
from gradkernels.batches.loading.prefetch import prefetched
from gradkernels.batches.loading.progress import Done
from gradkernels.quantity import Moments
from gradkernels.tree import leaves

P, N, SIZE = gk.LogisticRegression(l2=0.1), 53, 12
THETA, X, Y = P.draw(N, seed=1, features=3)
RNG = np.random.default_rng(0)
WEIGHTS, GROUPS = RNG.standard_normal((N, 3)), RNG.integers(0, 9, N)
EDGES = [0, *range(SIZE, N, SIZE), N]
BATCHES = [(X[i:j], Y[i:j]) for i, j in pairwise(EDGES)]
OVER = gk.over(BATCHES)

MODEL = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
MODULE = gk.ModuleProblem(MODEL, nn.CrossEntropyLoss())
TX, TY = torch.from_numpy(X), torch.arange(N) % 2
LOADER = gk.over(DataLoader(TensorDataset(TX, TY), batch_size=SIZE))

ASKED = {
    "gradient": {},
    "moments": {},
    "clipped_sum": {"max_norm": 0.4},
    "weighted_sum": {"weights": WEIGHTS},
    "group_sums": {"groups": GROUPS, "count": 9},
    "outer": {"groups": GROUPS},
    "per_sample": {},
    "norms": {},
    "project": {"size": 5},
    "gram": {},
}
MORE = [
    ("clipped_sum", {"norms_out": True, "by": "parameter", "rule": "automatic"}),
    ("weighted_sum", {"weights": WEIGHTS[:, 0]}),
    ("outer", {}),
    ("per_sample", {"flat": True}),
    ("norms", {"by": "parameter"}),
    ("gram", {"by": "parameter"}),
]


def assert_same(found, expected, rtol=1e-10):
    assert type(found) is type(expected)
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        assert (type(one), one.dtype, one.shape) == (type(other), other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol, rtol * float(abs(other).max()))


@pytest.mark.parametrize(("name", "options"), [*ASKED.items(), *MORE])
def test_each_quantity_of_batches_is_that_of_all_samples_at_once(name, options):
    if "by" not in options:
        assert_same(getattr(OVER, name)(P, THETA, **options), getattr(gk, name)(P, THETA, X, Y, **options))
    at_once = {key: torch.from_numpy(one) if isinstance(one, np.ndarray) else one for key, one in options.items()}
    assert_same(getattr(LOADER, name)(MODULE, **at_once), getattr(gk, name)(MODULE, None, TX, TY, **at_once))


def test_products_with_directions_and_with_other_samples():
    v = {name: torch.ones_like(one) for name, one in MODEL.named_parameters()}
    assert_same(LOADER.inner(MODULE, None, v), gk.inner(MODULE, None, TX, TY, v))
    assert_same(LOADER.gram(MODULE, other=(TX[:7], TY[:7])), gk.gram(MODULE, None, TX, TY, other=(TX[:7], TY[:7])))
    assert_same(OVER.gram(P, THETA, other=(TX[:7], Y[:7])), gk.gram(P, THETA, X, Y, other=(X[:7], Y[:7])))


def test_gradients_of_a_module_are_those_of_single_backward_passes():
    rows = oracle(MODEL, nn.CrossEntropyLoss(), TX, TY)
    assert_same(LOADER.gradient(MODULE), {name: part.mean(0) for name, part in rows.items()})
    assert_same(LOADER.per_sample(MODULE), rows)
    norms = sum((part.flatten(1) ** 2).sum(1) for part in rows.values()) ** 0.5
    cut = {name: torch.einsum("n,n...->...", (0.4 / norms).clamp(max=1), part) for name, part in rows.items()}
    assert_same(LOADER.clipped_sum(MODULE, max_norm=0.4), cut)


def test_a_mean_counts_samples_and_not_batches():
    problem, ones = gk.LinearRegression(fit_intercept=False), np.ones(5)
    batches = [(ones[:1], np.array([-1.0])), (ones[:0], ones[:0]), (ones[:4], np.array([-2.0, -2, -2, -2]))]
    found = gk.over(batches)
    assert found.gradient(problem, np.zeros(1)).tolist() == [3.6]  # (2 + 4 * 4) / 5
    mean, variance = found.moments(problem, np.zeros(1))
    assert mean.tolist() == [3.6]
    np.testing.assert_allclose(variance, [0.64], rtol=1e-15)  # 68 / 5 - 3.6 ** 2
    assert found.norms(problem, np.zeros(1)).tolist() == [2, 4, 4, 4, 4]


def test_variance_far_from_zero_is_not_lost_in_squares():
    problem, n = gk.LinearRegression(fit_intercept=False), 64
    batches = [(np.ones(1), np.array([-5e7 - i % 2 / 2])) for i in range(n)]  # gradients 1e8 and 1e8 + 1
    mean, variance = gk.over(batches).moments(problem, np.zeros(1))
    assert mean.tolist() == [100_000_000.5]
    np.testing.assert_allclose(variance, [0.25], rtol=1e-6)


def test_single_precision_stays_and_is_summed_in_double():
    problem = gk.LinearRegression(fit_intercept=False)
    batches = [(np.ones(1, "f4"), np.array([-(2.0**23) if i == 0 else -0.25], "f4")) for i in range(65)]
    found = gk.over(batches).clipped_sum(problem, np.zeros(1, "f4"), np.inf)
    assert found.dtype == np.float32
    assert found.tolist() == [2**24 + 32]  # in float32, 2 ** 24 + 0.5 is 2 ** 24


def test_batches_go_to_the_library_of_theta():
    assert_same(gk.over([(TX[:9], Y[:9])]).norms(P, THETA), gk.norms(P, THETA, X[:9], Y[:9]))
    pairs = [(X[:9], TY[:9].numpy()), [TX[9:], TY[9:]]]
    assert_same(gk.over(pairs).norms(MODULE), gk.norms(MODULE, None, TX, TY))


def test_arrays_of_jax_come_back():
    jnp = pytest.importorskip("jax.numpy")
    theta, x, y = (jnp.asarray(one, "float32") for one in (THETA, X, Y))
    over = gk.over([(x[:30], y[:30]), (x[30:], y[30:])])
    for name in ("gradient", "norms"):
        given = {"kernel": "numpy.broadcast"}  # which compiles nothing
        assert_same(getattr(over, name)(P, theta, **given), getattr(gk, name)(P, theta, x, y, **given), 1e-5)


class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 1)

    def forward(self, features, mask, labels):
        output = (self.map(features) * mask).squeeze(1)
        return {"loss": ((output - labels) ** 2).mean()}


def test_dicts_are_inputs_of_a_model_with_its_own_loss_and_split_makes_pairs_of_anything():
    problem = gk.ModuleProblem(Summed().double(), None)
    x = {"features": TX, "mask": torch.ones(N, 1).double(), "labels": TX[:, 0]}
    dicts = [{name: one[i:j] for name, one in x.items()} for i, j in pairwise(EDGES)]
    expected = gk.norms(problem, None, x, None)
    assert_same(gk.over(dicts).norms(problem), expected)
    triples = DataLoader(TensorDataset(*x.values()), batch_size=20)
    split = gk.over(triples, split=lambda batch: (tuple(batch), None))
    assert_same(split.norms(problem), expected)


def test_some_parameters_and_weights_of_samples_alone():
    expected = gk.norms(MODULE, None, TX, TY, parameters="2.*")
    assert_same(LOADER.norms(MODULE, parameters="2.*"), expected)
    weights = abs(WEIGHTS[:, 0])
    assert_same(OVER.gradient(P, THETA, sample_weight=weights), gk.gradient(P, THETA, X, Y, sample_weight=weights))


def test_an_option_by_sample_may_be_a_function_of_the_batch():
    expected = gk.weighted_sum(P, THETA, X, Y, Y * X[:, 1])
    assert_same(OVER.weighted_sum(P, THETA, lambda x, y: y * x[:, 1]), expected)
    assert_same(LOADER.group_sums(MODULE, None, lambda x, y: y, 2), gk.group_sums(MODULE, None, TX, TY, TY, 2))


def test_rows_go_into_memory_of_the_caller(tmp_path):
    out = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float64, (N, 5))
    assert LOADER.project(MODULE, size=5, out=out) is out
    assert_same(np.array(out), gk.project(MODULE, None, TX, TY, size=5).numpy())
    rows = {name: torch.empty(N, *one.shape).double() for name, one in MODEL.named_parameters()}
    assert_same(LOADER.per_sample(MODULE, out=rows), gk.per_sample(MODULE, None, TX, TY))


def test_memory_that_would_cut_off_fractions_is_refused():
    for out in (np.zeros(N, int), np.zeros(N, bool)):
        with pytest.raises(TypeError, match="which would cut off the fractions of rows of float64; pass an array of"):
            OVER.norms(P, THETA, out=out)


def test_memory_has_the_right_size_where_the_number_of_samples_is_known_and_grows_elsewhere():
    assert (LOADER.stream.samples, LOADER.stream.length) == (N, 5)
    dropping = gk.over(DataLoader(TensorDataset(TX, TY), batch_size=SIZE, drop_last=True))
    assert dropping.stream.samples == 48
    assert len(dropping.norms(MODULE)) == 48

    class Endless(IterableDataset):
        def __iter__(self):
            return zip(TX, TY, strict=True)

    unknown = gk.over(DataLoader(Endless(), batch_size=5))
    assert (unknown.stream.samples, unknown.stream.length) == (None, None)
    assert_same(unknown.norms(MODULE), gk.norms(MODULE, None, TX, TY))


def test_every_quantity_has_its_function():
    from gradkernels.quantity import QUANTITIES

    of_losses = [name for name, one in QUANTITIES.items() if not one.of_outputs]
    assert [name for name in of_losses if not name.endswith("_by") and not hasattr(OVER, name)] == []


BAD = [
    ([(X, Y), (X[:, :2], Y)], ValueError, r"batch 1 \(samples 53 to 105\): theta \(4,\), x \(53, 2\)"),
    ([(X, Y), (X[:5], Y[:4])], ValueError, r"batch 1 \(samples 53 to 56\): "),
    ([(X, Y), (X.astype("f4"), Y)], TypeError, r"batch 1 \(samples 53 to 105\): mixed dtype"),
    ([(X, Y, Y)], TypeError, r"batch 0: it is 3 parts, and must be \(x, y\); pass split="),
    ([X], TypeError, r"batch 0: it is a ndarray, and must be \(x, y\)"),
    ([(X, Y), None], TypeError, r"batch 1: it is a NoneType, and must"),
    ([(3.0, 2.0)], TypeError, r"batch 0: "),
    ([], ValueError, r"the batches have no samples; pass a list of \(x, y\), a DataLoader or a generator that"),
    ([(X[:0], Y[:0])], ValueError, "the batches have no samples"),
]


@pytest.mark.parametrize(("batches", "error", "says"), BAD)
@pytest.mark.parametrize("name", ["gradient", "norms"])
def test_bad_batches_are_named(batches, error, says, name):
    with pytest.raises(error, match=f"^{says}"):
        getattr(gk.over(batches), name)(P, THETA)


REFUSED = [
    (lambda: gk.over(3), TypeError, "batches is a int; it must be a DataLoader, or an iterable of"),
    (lambda: gk.over(BATCHES, prefetch=-1), ValueError, "prefetch is -1"),
    (lambda: OVER.gradient(P), TypeError, "theta is None; logistic.* has no parameters of its own"),
    (lambda: OVER.gradient(MODEL), TypeError, "problem is a Sequential"),
    (lambda: OVER.weighted_sum(P, THETA), TypeError, "weights is missing; pass weights="),
    (lambda: OVER.weighted_sum(P, THETA, [1.0] * N), TypeError, r"batch 0 .*: weights is a list; pass an array"),
    (lambda: OVER.weighted_sum(P, THETA, WEIGHTS[:40]), ValueError,
     r"batch 3 \(samples 36 to 47\): weights has 40 entries and the batch goes on to sample 47"),
    (lambda: gk.over(BATCHES[:4]).weighted_sum(P, THETA, WEIGHTS), ValueError,
     "weights has 53 entries and the batches have 48 samples; it must have one for each"),
    (lambda: OVER.clipped_sum(P, THETA, rule=np.sqrt), ValueError, "rule= is a function of all norms"),
    (lambda: OVER.norms(P, THETA, out=np.empty(N - 1)), ValueError, r"out is \(52,\); it must have a row for each"),
    (lambda: OVER.norms(P, THETA, out=np.empty(N + 1)), ValueError, "out has 54 rows, and the batches have 53 samples"),
    (lambda: OVER.norms(P, THETA, out=torch.empty(N)), TypeError, "out is a Tensor and the rows are of numpy"),
    (lambda: LOADER.per_sample(MODULE, out=TX), TypeError, "out has not the structure of the result; .* for 0.weight"),
    (lambda: OVER.gram(P, THETA, out=np.empty((N, N))), TypeError, "gram of all samples with each other takes neither"),
    (lambda: OVER.norms(P, THETA, kernel="numpy.loops"), ValueError, "batch 0 .*: there is no kernel for norms"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "says"), REFUSED)
def test_what_cannot_be_is_said(call, error, says):
    with pytest.raises(error, match=f"^{says}"):
        call()


def test_an_iterator_that_was_gone_through_is_not_a_result_of_no_samples():
    over = gk.over(iter(BATCHES))
    over.gradient(P, THETA)
    with pytest.raises(ValueError, match="no samples"):
        over.gradient(P, THETA)


def test_batches_are_loaded_ahead_by_one_thread():
    loaded, names, computed = [], set(), []

    def loading():
        for number in range(9):
            loaded.append(number)
            names.add(threading.current_thread().name)
            yield number

    with closing(prefetched(loading(), 3)) as items:
        for number in items:
            computed.append(number)
            while len(loaded) < min(9, number + 4):  # it loads that far without being asked
                pass
            assert len(loaded) <= number + 5
    assert computed == list(range(9))
    assert names == {"gradkernels-prefetch"}
    assert list(prefetched(iter("abc"), 0)) == ["a", "b", "c"]


def test_the_thread_ends_with_the_pass_and_its_errors_come_in_their_place():
    def loading():
        yield from BATCHES[:2]
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        gk.over(loading()).weighted_sum(P, THETA, lambda x, y: seen.append(len(y)) or y)
    assert seen == [SIZE, SIZE]
    with pytest.raises(ZeroDivisionError):
        gk.over(BATCHES * 50).weighted_sum(P, THETA, lambda x, y: 1 / 0)
    assert [one for one in threading.enumerate() if one.name == "gradkernels-prefetch"] == []


def test_progress_says_what_is_left():
    assert str(Done(120, 15_360, 480, 20, 50.0)) == "batch 120 of 480, 15,360 samples, 0:03:00 left"
    assert str(Done(20, 640, 480, 20, 0.0)) == "batch 20 of 480, 640 samples"
    assert str(Done(3, 96, None, 0, 7.0)) == "batch 3, 96 samples"


def test_progress_is_lines_where_there_is_no_terminal_and_only_where_it_takes_long(monkeypatch, capsys):
    OVER.gradient(P, THETA)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    OVER.gradient(P, THETA)
    assert capsys.readouterr().err.splitlines()[-1] == "gradkernels: batch 5 of 5, 53 samples, 0:00:00 left"
    gk.over(BATCHES, progress=False).gradient(P, THETA)
    assert capsys.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
    assert isinstance(OVER.moments(P, THETA), Moments)
    assert "batch 5 of 5" in capsys.readouterr().err
