"""torch.recorded on a GPU: all quantities, numbers of samples and random draws, beside single samples and the hooks."""

from concurrent.futures import ThreadPoolExecutor

import modules
import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.recorded import recordings
from gradkernels.engines.recorded.cuda_graphs import CALLS_BEFORE, Replays
from gradkernels.tree import leaves
from gradkernels.zoo import ZOO

DEVICE = "cuda"
QUANTITIES = ("gradient", "per_sample", "norms", "clipped_sum", "moments")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


class Dropping(nn.Module):
    """Draws masks, and has a buffer and a tensor that is an attribute."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)
        self.register_buffer("shift", torch.ones(6))
        self.factor = torch.full((6,), 0.5, device=DEVICE)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x) + self.shift)) * self.factor)


def agree(got, want, tolerance):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        assert one.device.type == DEVICE
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", ZOO)
def test_models_of_the_zoo_pass_the_checks(name, quantity):
    gk.check(f"torch.recorded.{quantity}", gk.Case(ZOO[name](), quantity, 6, "float64", device=DEVICE))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("chunk", [1 << 20, 4])
@pytest.mark.parametrize("randomness", ["different", "same"])
def test_what_is_drawn_is_what_the_hooks_draw(randomness, chunk, quantity):
    problem = gk.ModuleProblem(
        modules.seeded(Dropping).double().to(DEVICE), functional.cross_entropy, randomness=randomness
    )
    theta, y = problem.parameters(), (torch.arange(9) % 3).to(DEVICE)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(3)).double().to(DEVICE)
    plain, compute = (
        gk.kernel(f"torch.{way}[chunk={chunk}].{quantity}").build(problem) for way in ("hooks", "recorded")
    )
    before = torch.cuda.get_rng_state()
    for n in (9, 5, 9):
        agree(compute(theta, x[:n], y[:n]), plain(theta, x[:n], y[:n]), 1e-10)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("quantity", ["per_sample", "norms"])
def test_results_are_written_to_memory_of_the_device(quantity):
    problem = gk.ModuleProblem(ZOO["mlp"]().model.to(DEVICE), functional.cross_entropy)
    x, y = (one[:6].to(DEVICE) for one in ZOO["mlp"]().example)
    theta = problem.parameters()
    if quantity == "norms":
        out = torch.full((6,), torch.nan, device=DEVICE)
    else:
        out = {name: one.new_full((6, *one.shape), torch.nan) for name, one in theta.items()}
    compute = gk.kernel(f"torch.recorded.{quantity}").build(problem)
    assert compute(theta, x, y, out=out) is out
    agree(out, gk.kernel(f"torch.hooks.{quantity}").build(problem)(theta, x, y), 1e-4)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_recording_of_one_device_is_not_used_on_another(quantity):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    problem = gk.ModuleProblem(model, functional.cross_entropy)
    compute = gk.kernel(f"torch.recorded.{quantity}").build(problem)
    x, y = torch.randn(6, 4).double(), torch.arange(6) % 3
    want = compute(problem.parameters(), x, y)
    theta = {name: one.detach().to(DEVICE) for name, one in problem.parameters().items()}
    got = compute(theta, x.to(DEVICE), y.to(DEVICE))
    for one, other in zip(leaves(got), leaves(want), strict=True):
        assert one.device.type == DEVICE
        torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-12)


# --- graphs


@pytest.fixture
def replays(monkeypatch):
    """Whatever replays recordings from here on; each captures without a look at who waits for whom."""
    made = []

    class Watched(Replays):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

        def _timed(self, n, *tensors):
            return True, super()._timed(n, *tensors)[1]

    monkeypatch.setattr(recordings, "Replays", Watched)
    return made


def batches(name, count, n=6):
    """Batches of a model of the zoo, in float64 and on the GPU: other samples each."""
    x, y = (leaf.to(DEVICE) for leaf in ZOO[name]().example)
    x = x.double() if x.is_floating_point() else x
    for step in range(count):
        at = (torch.arange(n, device=DEVICE) * 7 + 5 * step) % len(y)
        yield x[at], y[at]


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", ZOO)
def test_what_is_replayed_is_what_the_hooks_give(replays, name, quantity):
    problem = gk.ModuleProblem(ZOO[name]().model.double().to(DEVICE), functional.cross_entropy)
    theta = problem.parameters()
    compute, plain = (gk.kernel(f"torch.{way}.{quantity}").build(problem) for way in ("recorded", "hooks"))
    kept = []
    for x, y in batches(name, CALLS_BEFORE + 4):
        got = compute(theta, x, y)
        want = [one.clone() for one in leaves(plain(theta, x, y))]
        agree(got, want, 1e-9)
        kept.append((got, want))
        with torch.no_grad():
            for one in theta.values():
                one.mul_(1.01)  # where it is
    for got, want in kept:
        agree(got, want, 1e-9)
    assert sum(one.count for one in replays) == 1


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_other_parameters_memory_and_numbers_of_samples_get_graphs_of_their_own(replays, quantity):
    problem = gk.ModuleProblem(ZOO["mlp"]().model.double().to(DEVICE), functional.cross_entropy)
    compute, plain = (gk.kernel(f"torch.{way}.{quantity}").build(problem) for way in ("recorded", "hooks"))
    theta = problem.parameters()
    others = {name: one.detach() * 1.5 for name, one in theta.items()}
    for n in (6, 9, 6):
        for parameters in (theta, others):
            for x, y in batches("mlp", CALLS_BEFORE + 2, n):
                agree(compute(parameters, x, y), plain(parameters, x, y), 1e-9)
    (one,) = replays
    assert one.count >= 4  # two numbers, two sets of parameters; rows also by where they are written


def test_what_is_clipped_to_may_change_and_results_may_be_written_to_given_memory(replays):
    problem = gk.ModuleProblem(ZOO["mlp"]().model.double().to(DEVICE), functional.cross_entropy)
    theta = problem.parameters()
    clipped, plain = (gk.kernel(f"torch.{way}.clipped_sum").build(problem) for way in ("recorded", "hooks"))
    for step, (x, y) in enumerate(batches("mlp", 8)):
        agree(clipped(theta, x, y, 0.1 + 0.2 * step), plain(theta, x, y, 0.1 + 0.2 * step), 1e-9)
    assert replays[0].count == 1
    rows, plain = (gk.kernel(f"torch.{way}.per_sample").build(problem) for way in ("recorded", "hooks"))
    out = {name: one.new_full((6, *one.shape), torch.nan) for name, one in theta.items()}
    for x, y in batches("mlp", 8):
        for one in out.values():
            one.fill_(torch.nan)
        assert rows(theta, x, y, out=out) is out
        agree(out, plain(theta, x, y), 1e-9)
    assert replays[1].count == 1


def test_settings_of_precision_are_not_those_of_an_earlier_graph(replays):
    problem = gk.ModuleProblem(ZOO["mlp"]().model.to(DEVICE), functional.cross_entropy)
    theta, compute = problem.parameters(), gk.kernel("torch.recorded.gradient").build(problem)
    x, y = (leaf[:16].to(DEVICE) for leaf in ZOO["mlp"]().example)
    for _ in range(4):
        exact = compute(theta, x, y)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        for _ in range(4):
            compute(theta, x, y)
        assert replays[0].count == 2
    finally:
        torch.set_float32_matmul_precision(before)
    again = compute(theta, x, y)
    assert all(torch.equal(exact[name], again[name]) for name in theta)


def test_streams_and_threads_have_graphs_of_their_own(replays):
    problem = gk.ModuleProblem(ZOO["mlp"]().model.double().to(DEVICE), functional.cross_entropy)
    theta, compute = problem.parameters(), gk.kernel("torch.recorded.norms").build(problem)
    plain = gk.kernel("torch.hooks.norms").build(problem)
    data = [*batches("mlp", 40)]
    want = [plain(theta, x, y) for x, y in data]
    torch.cuda.synchronize()

    def work(_):
        with torch.cuda.stream(torch.cuda.Stream()):
            got = [compute(theta, x, y) for x, y in data]
            torch.cuda.current_stream().synchronize()
        return got

    with ThreadPoolExecutor(3) as pool:
        for got in pool.map(work, range(3)):
            for one, other in zip(got, want, strict=True):
                agree(one, other, 1e-9)
    assert replays[0].count == 3


def test_what_draws_random_numbers_is_not_replayed(replays):
    problem = gk.ModuleProblem(modules.seeded(Dropping).double().to(DEVICE), functional.cross_entropy,
                               randomness="different")  # fmt: skip
    compute = gk.kernel("torch.recorded.norms").build(problem)
    x, y = torch.randn(9, 4, device=DEVICE).double(), (torch.arange(9) % 3).to(DEVICE)
    for _ in range(5):
        compute(problem.parameters(), x, y)
    assert replays == []


@pytest.mark.parametrize(("width", "n", "expected"), [(64, 8, True), (8192, 4096, False)])
def test_a_gpu_that_has_enough_to_do_gets_no_graph(monkeypatch, width, n, expected):
    model = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4)).to(DEVICE)
    problem, seen, timed = gk.ModuleProblem(model, functional.cross_entropy), [], Replays._timed
    monkeypatch.setattr(Replays, "_timed", lambda *given: seen.append(timed(*given)) or seen[-1])
    compute = gk.kernel("torch.recorded.gradient").build(problem)
    y = torch.zeros(n, dtype=torch.long, device=DEVICE)
    for _ in range(CALLS_BEFORE + 2):
        compute(problem.parameters(), torch.randn(n, width, device=DEVICE), y)
    assert [waits for waits, _ in seen] == [expected]
