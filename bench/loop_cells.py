"""One process of `test_loops.py`: one figure of what a training loop costs beyond a plain one.

    python bench/loop_cells.py new_n bert

prints one JSON object a line: `what`, `model`, `figure`, `ratio`, `limit`. Ratios are of two times, or two amounts of
memory, within this process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F

import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.timing.peak_memory import peak_bytes

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "real"))

KEPT_FIRST = 10
STEPS = 1000
MEGABYTES = 2**20


def tell(what, model, figure, ratio, limit):
    print(json.dumps({"what": what, "model": model, "figure": figure, "ratio": ratio, "limit": limit}), flush=True)


def seconds(call):
    started = perf_counter()
    call()
    return perf_counter() - started


def resident():
    """Bytes in use once everything that is free has been returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def real(name, **settings):
    from families import FAMILIES
    from real_cells import SIZES

    family = FAMILIES[name]
    model = family.make(**{**SIZES[name], **settings})
    return gk.ModuleProblem(model, family.loss, mixing="own"), family.data


def image_problem():
    problem = zoo.ZOO["cnn"]()
    x, y = problem.example

    def data(n, seed=0, **_):
        at = torch.randint(len(y), (n,), generator=torch.Generator().manual_seed(seed))
        return torch.as_tensor(x)[at], torch.as_tensor(y)[at]

    return problem, data


def made(name):
    return image_problem() if name == "cnn" else real(name)


def clip(problem, x, y):
    return gk.clipped_sum(problem, None, x, y, max_norm=1.0)


def plain(problem, x, y):
    own = list(problem.own().values())
    return torch.autograd.grad(problem.loss_fn(problem.output(x), y), own)


def new_n(name):
    """Each number of samples that Poisson sampling draws for the first time, over the same step done again.

    Of a plain step likewise, with numbers of its own: oneDNN prepares convolutions anew for each shape.
    """
    problem, data = made(name)
    sizes = torch.poisson(torch.full((60,), 24.0), generator=torch.Generator().manual_seed(1)).int().tolist()
    ratios, seen = {clip: [], plain: []}, set()
    for at, n in enumerate(sizes):
        step = plain if n % 3 == 0 else clip
        x, y = data(n, seed=at)
        first, again = seconds(partial(step, problem, x, y)), seconds(partial(step, problem, x, y))
        if n not in seen and at >= KEPT_FIRST:
            ratios[step].append(first / again)
        seen.add(n)
    tell("plain step at a new n over one at a known n, median", name, median(ratios[plain]), None, None)
    tell("step at a new n over one at a known n, median", name, None, median(ratios[clip]), 1.1)


def new_length(name):
    """Each length for the first time, over the same step done again; and what is kept of it."""
    problem, data = made(name)
    ratios, before = [], 0
    for at, length in enumerate([20, 20, *range(21, 41)]):
        x, y = data(8, seed=at, length=length)
        first, again = seconds(partial(clip, problem, x, y)), seconds(partial(clip, problem, x, y))
        if at == 4:
            before = resident()
        if at >= 2:
            ratios.append(first / again)
    tell("step at a new length over one at a known length, median", name, None, median(ratios), 1.5)
    tell("megabytes kept for each new length", name, (resident() - before) / MEGABYTES / 17, None, 0.5)


def large():
    """Twenty million parameters in eight layers, and a batch of 32."""
    torch.manual_seed(0)
    width = int((20e6 / 8) ** 0.5)
    layers = [one for _ in range(8) for one in (nn.Linear(width, width), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(width, 4))
    return gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.randn(32, width), torch.arange(32) % 4


def first_call(name):
    problem, x, y = large()
    step = median(seconds(partial(plain, problem, x, y)) for _ in range(7))
    tell("first call, in plain steps", "20M parameters", None, seconds(partial(clip, problem, x, y)) / step, 12)


def kept(name):
    """What stays after first calls of five quantities, their results gone, over the parameters."""
    problem, x, y = large()
    plain(problem, x, y)
    before, parameters = resident(), sum(one.nbytes for one in problem.own().values())
    for quantity in ("gradient", "per_sample", "norms", "moments", "clipped_sum"):
        getattr(gk, quantity)(problem, None, x, y)
    tell("kept after five quantities, over the parameters", "20M parameters", None,
         max(0, resident() - before) / parameters, 1.0)  # fmt: skip


class Map(nn.Module):
    """Four linear maps written in some way."""

    def __init__(self, write, width=256):
        super().__init__()
        torch.manual_seed(0)
        self.write = write
        self.weights = nn.ParameterList(torch.randn(width, width) / width**0.5 for _ in range(4))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(4))

    def forward(self, x):
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = torch.tanh(self.write(x, weight, bias))
        return x.mean(1)[:, :10]


WRITTEN = {
    "nn.Linear": lambda x, w, b: F.linear(x, w, b),
    "addmm": lambda x, w, b: torch.addmm(b, x.view(-1, x.shape[-1]), w).view(x.shape),
    "x @ W + b": lambda x, w, b: x @ w + b,
    "F.linear(x, W.T)": lambda x, w, b: F.linear(x, w.T, b),
    "matmul + b": lambda x, w, b: torch.matmul(x, w) + b,
    "einsum + b": lambda x, w, b: torch.einsum("nti,io->nto", x, w) + b,
    "baddbmm": lambda x, w, b: torch.baddbmm(b, x, w.expand(len(x), -1, -1)),
}


def written(name):
    """Linear maps however they are written, over those of nn.Linear, in turns."""
    x, y = torch.randn(16, 32, 256), torch.arange(16) % 10
    problems = {name: gk.ModuleProblem(Map(write), nn.CrossEntropyLoss()) for name, write in WRITTEN.items()}
    for quantity in ("clipped_sum", "per_sample"):
        ask, found = getattr(gk, quantity), {name: [] for name in problems}
        for turn in range(25):
            for name, problem in problems.items():
                took = seconds(partial(ask, problem, None, x, y))
                found[name] += [took] if turn >= 5 else []
        for name in list(problems)[1:]:
            ratio = median(map(lambda a, b: a / b, found[name], found["nn.Linear"]))
            tell(f"{quantity} over that of nn.Linear", name, None, ratio, 1.1)


def checkpointed(name):
    """Peak memory with activation checkpointing over that without, of the clipped sum and of a plain backward."""
    shares = {}
    for what, call in (("plain", plain), ("clipped_sum", clip)):
        peaks = []
        for on in (False, True):
            problem, data = real(name, num_hidden_layers=8)
            problem.model.train()
            for module in problem.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            if on:
                problem.model.activation_checkpointing_enable({"use_reentrant": False})
            x, y = data(16, length=64)
            call(problem, x, y)
            peaks.append(min(peak_bytes(partial(call, problem, x, y)) for _ in range(3)))
        shares[what] = peaks[1] / peaks[0]
    tell("memory with checkpoints over without, plain backward", name, shares["plain"], None, None)
    tell("memory with checkpoints over without, clipped_sum", name, shares["clipped_sum"],
         shares["clipped_sum"] / shares["plain"], 1.1)  # fmt: skip


def training(name):
    """DP-SGD for a thousand steps, padded, with Poisson sampling and dropout off: does memory grow?"""
    problem, data = real(name)
    trained = problem.own()
    steps = torch.optim.SGD(trained.values(), lr=0.05)
    sizes = torch.poisson(torch.full((STEPS,), 6.0), generator=torch.Generator().manual_seed(1)).int().tolist()
    used, losses = {}, []
    for at, n in enumerate(sizes):
        x, y = data(n, seed=at, length=16 + at % 13)
        for key, one in clip(problem, x, y).items():
            trained[key].grad = (one + 0.01 * torch.randn_like(one)) / 6
        steps.step()
        if at in (99, STEPS - 1):
            used[at] = resident()
        if n:
            losses.append(float(problem.loss_fn(problem.output(x), y)))
    assert all(map(torch.isfinite, torch.tensor(losses)))
    tell(f"megabytes more after {STEPS} steps than after 100", name, (used[STEPS - 1] - used[99]) / MEGABYTES, None, 16)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {one.__name__: one for one in (new_n, new_length, first_call, kept, written, checkpointed, training)}[sys.argv[1]](
        sys.argv[2] if len(sys.argv) > 2 else ""
    )
