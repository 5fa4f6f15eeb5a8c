"""A memory limit holds: chunks are as large as it allows, and the peak that the system sees stays below it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.isolation.environment import memory_environment
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.dispatch import memory_limit
from gradkernels.tree import leaves

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def cnn():
    import torch

    problem = zoo.cnn()
    rows = torch.arange(200) % 64
    x, y = (one[rows] for one in problem.example)
    return problem, x, y


def test_a_row_and_a_result_have_the_bytes_of_their_numbers(cnn):
    problem, _, _ = cnn
    theta = problem.parameters()
    assert memory_limit.row_bytes(theta) == 26_010 * 4
    assert memory_limit.result_bytes(gk.kernel("torch.hooks.per_sample").quantity, theta, 10) == 26_010 * 40
    assert memory_limit.result_bytes(gk.kernel("torch.hooks.norms").quantity, theta, 10) == 40
    assert memory_limit.result_bytes(gk.kernel("torch.hooks.moments").quantity, theta, 10) == 2 * 26_010 * 4
    assert memory_limit.result_bytes(gk.kernel("torch.hooks.clipped_sum").quantity, theta, 10) == 26_010 * 4


def test_a_sample_costs_twice_what_autograd_saves_of_it_and_a_row():
    """Linear(3, 5), tanh, Linear(5, 2), cross entropy: the input, tanh and log softmax are saved, and the target."""
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    saved = 8 * (3 + 5 + 2 + 1)
    assert memory_limit.bytes_per_sample(problem, problem.parameters(), x, y) == 2 * saved + 8 * (20 + 12)


def test_a_sample_of_which_nothing_is_saved_costs_a_row():
    import torch
    from torch import nn

    class Constant(nn.Linear):
        def forward(self, x):
            return self.bias.expand(len(x), 2)

    problem = gk.ModuleProblem(Constant(3, 2), lambda output, y: output.mean())
    assert memory_limit.bytes_per_sample(problem, problem.parameters(), torch.ones(4, 3), torch.ones(4)) == 4 * 8


def test_what_a_model_computes_and_drops_is_counted_once_each():
    """The inputs, and tanh of the samples three times."""
    import torch
    from torch import nn

    class Dropping(nn.Linear):
        def forward(self, x):
            for _ in range(3):
                torch.tanh(self.bias * x)
            return super().forward(x)

    problem = gk.ModuleProblem(Dropping(2, 2).double(), lambda output, y: output.mean())
    x, y = torch.randn(4, 2, dtype=torch.float64), torch.ones(4)
    saved = 8 * (2 + 3 * 2)
    assert memory_limit.bytes_per_sample(problem, problem.parameters(), x, y) == 2 * saved + 8 * 6


ADVICE = "; gk.per_sample_chunks hands rows out chunk by chunk"


def fitting(key, left, n=100):
    """The chunk of a kernel of 100 parameters, by 1000 bytes a sample, in so many bytes besides scratch and result."""
    import torch

    kernel, theta = gk.kernel(key), {"w": torch.zeros(10, 10)}
    result = memory_limit.result_bytes(kernel.quantity, theta, n)
    return memory_limit.in_chunks(kernel, n, result, 1000, 8 * MEGABYTE + result + left)


def test_the_chunk_is_the_largest_that_fits():
    left = {1000: 1, 1999: 1, 2000: 2, 99_999: 99, 100_000: 100, 1_000_000: 100}
    assert {some: dict(fitting("torch.hooks.norms", some).set_options)["chunk"] for some in left} == left
    assert fitting("torch.hooks[chunk=7].norms", 9000).set_options == (("chunk", 7),)
    assert fitting("torch.hooks[chunk=7].norms", 5000).set_options == (("chunk", 5),)
    assert fitting("torch.hooks[chunk=700].norms", 900_000).set_options == (("chunk", 100),)
    assert fitting("torch.vmap+.norms", 100_000) is gk.kernel("torch.vmap+.norms")


def test_a_chunk_has_room_for_the_products_of_its_pairs():
    """Samples of 1000 bytes, and 24 for each two of them: ten take 12,400; two are the least."""
    left = {2000: 2, 3215: 2, 3216: 3, 12_399: 9, 12_400: 10, 10_000_000: 100}
    assert {some: dict(fitting("torch.hooks.gram", some).set_options)["chunk"] for some in left} == left
    with pytest.raises(memory_limit.TooSmall):
        fitting("torch.hooks.gram", 1999)


@pytest.mark.parametrize(
    ("key", "left", "says"),
    [
        ("torch.hooks.norms", 999, "8,390,008 bytes, max_bytes=8,390,007"),
        ("torch.vmap+.norms", 99_999, "8,489,008 bytes, max_bytes=8,489,007"),
        ("torch.hooks.per_sample", -8 * MEGABYTE, "8,429,608 bytes, max_bytes=40,000"),
        ("torch.hooks.per_sample", -8 * MEGABYTE - 1, f"8,429,608 bytes, max_bytes=39,999{ADVICE}"),
    ],
)
def test_what_does_not_fit_says_how_much_it_needs(key, left, says):
    with pytest.raises(memory_limit.TooSmall) as caught:
        fitting(key, left)
    assert str(caught.value) == f"{key} needs about {says}"


def test_the_limit_holds_for_the_batch_at_hand_and_is_found_once_for_its_shapes(cnn, monkeypatch):
    problem, x, y = cnn
    kernel, theta = gk.kernel("torch.hooks.per_sample"), problem.parameters()
    case, batch = gk.Case(problem, "per_sample", 1, "float32"), CallerBatch(problem, theta, x, y)
    with pytest.raises(memory_limit.TooSmall, match="needs about"):
        memory_limit.MemoryLimit(problem, 20 * MEGABYTE).fit(kernel, case, batch, "shapes")
    limit = memory_limit.MemoryLimit(problem, 60 * MEGABYTE)
    found = limit.fit(kernel, case, batch, "shapes")
    monkeypatch.setattr(memory_limit, "in_chunks", lambda *given: pytest.fail("it was found already"))
    assert limit.fit(kernel, case, batch, "shapes") is found
    nothing = CallerBatch(problem, theta, x[:0], y[:0])
    for limit, some in ((None, batch), (1, nothing)):
        assert memory_limit.MemoryLimit(problem, limit).fit(kernel, case, some, "others") is kernel


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "moments", "clipped_sum", "gradient"])
def test_chunks_give_the_same_result(cnn, quantity):
    problem, x, y = cnn
    limit = (40 if quantity == "per_sample" else 16) * MEGABYTE
    bound = gk.fastest(problem, quantity, like=(None, x, y), max_bytes=limit)
    assert 1 <= dict(bound.kernel.set_options)["chunk"] < 100
    assert f"max_bytes={limit}" in bound.why
    whole = gk.fastest(problem, quantity, like=(None, x, y))
    for one, other in zip(leaves(bound(None, x, y)), leaves(whole(None, x, y)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6 * float(other.abs().max()))


def test_what_no_chunk_can_do_is_refused_with_what_is_needed(cnn):
    problem, x, y = cnn
    with pytest.raises(ValueError, match=r"torch\.hooks\.per_sample needs about [\d,]+ bytes, max_bytes=1,000,000"):
        gk.per_sample(problem, None, x, y, max_bytes=1_000_000)
    with pytest.raises(ValueError, match="max_bytes is 0; it must be at least 1, or None"):
        gk.norms(problem, None, x, y, max_bytes=0)
    with pytest.raises(ValueError, match=r"one sample needs about [\d,]+ bytes, max_bytes=1,000"):
        gk.per_sample_chunks(problem, None, x, y, max_bytes=1000)


@pytest.mark.parametrize("options", [{"chunk": 64}, {"max_bytes": 20 * MEGABYTE}, {}])
def test_chunks_of_rows_are_the_rows(cnn, options):
    problem, x, y = cnn
    rows = gk.per_sample(problem, None, x, y)
    seen = []
    for part, some in gk.per_sample_chunks(problem, None, x, y, **options):
        seen += range(part.start, part.stop)
        for one, other in zip(leaves(some), leaves(rows), strict=True):
            np.testing.assert_allclose(one, other[part], rtol=1e-3, atol=1e-5)
    assert seen == list(range(200))


def test_chunks_are_written_to_memory_that_is_used_again(cnn):
    problem, x, y = cnn
    out = {name: one.detach().new_full((48, *one.shape), float("nan")) for name, one in problem.parameters().items()}
    sizes = []
    for part, rows in gk.per_sample_chunks(problem, None, x, y, out=out):
        sizes.append(part.stop - part.start)
        for name, one in rows.items():
            assert one.data_ptr() == out[name].data_ptr()
            assert not one.isnan().any()
    assert sizes == [48, 48, 48, 48, 8]


def test_chunks_of_a_regression():
    p = gk.LinearRegression()
    theta, x, y = p.draw(100, seed=0)
    parts = list(gk.per_sample_chunks(p, theta, x, y, chunk=40))
    assert [part for part, _ in parts] == [slice(0, 40), slice(40, 80), slice(80, 100)]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in parts]), gk.per_sample(p, theta, x, y))
    assert list(gk.per_sample_chunks(p, theta, x[:0], y[:0])) == []


PEAK = """
import json, sys, torch
torch.set_num_threads(1)
import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.timing.peak_memory import peak_bytes
name, quantity, n, limit = json.loads(sys.argv[1])
problem = zoo.ZOO[name]()
rows = torch.arange(n) % 64
x, y = (one[rows] for one in problem.example)
k = gk.fastest(problem, quantity, like=(None, x, y), max_bytes=limit)
call = lambda: k(None, x, y)
call()
print(json.dumps([min(filter(None, (peak_bytes(call) for _ in range(3))), default=None), k.kernel.key]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="only Linux tells the peak")
@pytest.mark.parametrize(
    ("name", "quantity", "limit"),
    [("cnn", "per_sample", 60), ("lstm", "norms", 20), ("transformer", "clipped_sum", 30), ("cnn", "gram", 32)],
)
def test_the_peak_stays_within_the_limit(name, quantity, limit):
    given = json.dumps([name, quantity, 400, limit * MEGABYTE])
    done = subprocess.run(
        [sys.executable, "-c", PEAK, given], capture_output=True, text=True, env={**os.environ, **memory_environment()}
    )
    assert done.returncode == 0, done.stderr
    peak, key = json.loads(done.stdout)
    if peak is None:
        pytest.skip("the system does not tell the peak")
    assert peak <= limit * MEGABYTE, key


@pytest.mark.parametrize("way", ["torch.hooks", "torch.reweighted"])
def test_nothing_is_kept_until_a_collection(way):
    """Chunks would add up otherwise."""
    import gc
    import weakref

    problem = zoo.transformer()
    x, y = problem.example
    outputs = []
    problem.model.encoder.register_forward_hook(lambda module, args, output: outputs.append(weakref.ref(output)))
    bound = gk.fastest(problem, "clipped_sum", like=(None, x, y), kernel=way)
    outputs.clear()
    gc.disable()
    try:
        bound(None, x, y)
        assert [output() for output in outputs] == [None] * len(outputs)
        assert outputs
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"chunk": 0}, ValueError, "chunk is 0; it must be at least 1, or None"),
        ({"chunk": 1.5}, TypeError, "chunk is 1.5; it must be a whole number of at least 1, or None"),
        ({"chunk": "a"}, TypeError, "chunk is 'a'; it must be a whole number of at least 1, or None"),
        ({"max_bytes": "1GB"}, TypeError, "max_bytes is '1GB'; it must be a whole number of at least 1, or None"),
    ],
)
def test_chunks_of_what_is_no_number_are_refused(given, error, says):
    p = gk.LinearRegression()
    with pytest.raises(error, match=f"^{says}$"):
        gk.per_sample_chunks(p, *p.draw(3, seed=0), **given)
