"""The public functions, the dispatcher, a race and the commands on a GPU, beside single samples on the CPU."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import gradkernels as gk
from gradkernels.tree import leaves
from gradkernels.zoo import ZOO

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")

QUANTITIES = ("gradient", "per_sample", "norms", "clipped_sum", "moments")
SETTINGS = {"clipped_sum": {"max_norm": 0.3}}


def close(got, want, tolerance=1e-9):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        assert one.device.type == "cuda"
        torch.testing.assert_close(one.cpu(), other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def on_both(problem, n=7):
    """A model in float64 on the CPU with its data, and its data on the GPU."""
    x, y = (leaf[:n].double() if leaf.is_floating_point() else leaf[:n] for leaf in problem.example)
    return (gk.ModuleProblem(problem.model.double(), functional.cross_entropy), x, y), x.to("cuda"), y.to("cuda")


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer", "lstm"])
def test_a_model_that_lives_there_gives_what_single_samples_give(name, quantity):
    (problem, x, y), far_x, far_y = on_both(ZOO[name]())
    options = SETTINGS.get(quantity, {})
    want = getattr(gk, quantity)(problem, problem.parameters(), x, y, **options)
    there = gk.ModuleProblem(ZOO[name]().model.double().to("cuda"), functional.cross_entropy)
    for _ in range(12):  # trials among them
        close(getattr(gk, quantity)(there, there.parameters(), far_x, far_y, **options), want)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_regressions_there_give_what_they_give_here(quantity):
    for problem in (gk.LinearRegression(), gk.LogisticRegression(l2=0.1), gk.SoftmaxRegression()):
        case = gk.Case(problem, quantity, 50, features=3)
        arrays = [torch.as_tensor(one) for one in case.draw()]
        want = getattr(gk, quantity)(problem, *arrays, **SETTINGS.get(quantity, {}))
        close(getattr(gk, quantity)(problem, *(one.to("cuda") for one in arrays), **SETTINGS.get(quantity, {})), want)


class CheckpointedDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(4, 64), nn.Linear(64, 3)

    def forward(self, x):
        return self.head(checkpoint(lambda one: functional.dropout(self.linear(one)), x, use_reentrant=False))


def test_a_checkpointed_part_draws_again_what_it_drew_there():
    """The rows' sum is what one backward pass gives that begins with the same random numbers."""
    model, x = CheckpointedDropout().to("cuda"), torch.randn(5, 4, device="cuda")
    problem = gk.ModuleProblem(model, lambda output, y: (output * y).sum(), reduction="sum", randomness="different")
    y = torch.randn(5, 3, device="cuda")
    torch.manual_seed(0)
    rows = gk.kernel("torch.hooks.per_sample").build(problem)(problem.parameters(), x, y)
    torch.manual_seed(0)
    (model(x) * y).sum().backward()
    for name, one in model.named_parameters():
        torch.testing.assert_close(rows[name].sum(0), one.grad)


def test_a_loop_of_steps_gives_new_results_and_does_not_grow():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).to("cuda")
    problem = gk.ModuleProblem(model, functional.cross_entropy)
    x, y = torch.randn(128, 64, device="cuda"), torch.randint(10, (128,), device="cuda")
    optimizer, seen = torch.optim.SGD(model.parameters(), 0.1), []
    for step in range(30):
        rows = gk.per_sample(problem, problem.parameters(), x, y)
        with torch.no_grad():
            for name, one in model.named_parameters():
                one.grad = rows[name].mean(0)
        optimizer.step()
        if step > 20:
            seen.append(torch.cuda.memory_allocated())
    assert max(seen) == min(seen)
    kept = {name: one.clone() for name, one in rows.items()}
    again = gk.per_sample(problem, problem.parameters(), x, y)
    assert all(torch.equal(rows[name], kept[name]) for name in kept)
    assert all(rows[name].data_ptr() != again[name].data_ptr() for name in kept)


def test_a_model_moved_there_between_calls_is_followed():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    problem = gk.ModuleProblem(model, functional.cross_entropy)
    x, y = torch.randn(6, 4).double(), torch.arange(6) % 3
    want = gk.norms(problem, problem.parameters(), x, y)
    model.to("cuda")
    close(gk.norms(problem, problem.parameters(), x.cuda(), y.cuda()), want)
    model.to("cpu")
    torch.testing.assert_close(gk.norms(problem, problem.parameters(), x, y), want)


def test_a_race_there_chooses_a_kernel_that_was_proven():
    problem = ZOO["mlp"]()
    problem.model.to("cuda")
    x, y = (leaf.to("cuda") for leaf in problem.example)
    kernel = gk.race(problem, "norms", like=(problem.parameters(), x, y), budget=6)
    here = ZOO["mlp"]()
    close(kernel(problem.parameters(), x, y), gk.norms(here, here.parameters(), *here.example), 1e-3)


def gradkernels(*words):
    done = subprocess.run([sys.executable, "-m", "gradkernels", *words], capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("problem", ["gradkernels.zoo:mlp", "linear", "softmax"])
def test_commands_measure_there(tmp_path, problem):
    out = str(tmp_path / "cuda.csv")
    done = gradkernels("run", "--problem", problem, "--device", "cuda", "--quantity", "norms,gradient", "--kernel",
                       "torch.*", "--sizes", "16", "--budget", "30s", "--passes", "2", "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    found = gradkernels("fastest", out, "--format", "json")
    assert found.returncode == 0, found.stderr
    print(done.stdout, json.dumps(json.loads(found.stdout), indent=0)[:1500])
