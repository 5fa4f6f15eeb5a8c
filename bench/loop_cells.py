"""One process of `test_loops.py`: one figure of what a training loop costs beyond a plain one.

    python bench/loop_cells.py new_n bert

prints one JSON object a line: `what`, `model`, `figure`, `ratio`, `limit`. Ratios are of two times, or two amounts of
memory, within this process.
"""

from __future__ import annotations

import sys
from functools import partial
from statistics import median
from time import perf_counter

import torch
from loop_memory import MEGABYTES, checkpointed, kept, resident, training
from loop_models import WRITTEN, Map, clip, large, made, plain, tell
from torch import nn

import gradkernels as gk

KEPT_FIRST = 10


def seconds(call):
    started = perf_counter()
    call()
    return perf_counter() - started


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


def first_call(name):
    problem, x, y = large()
    step = median(seconds(partial(plain, problem, x, y)) for _ in range(7))
    tell("first call, in plain steps", "20M parameters", None, seconds(partial(clip, problem, x, y)) / step, 12)


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    {one.__name__: one for one in (new_n, new_length, first_call, kept, written, checkpointed, training)}[sys.argv[1]](
        sys.argv[2] if len(sys.argv) > 2 else ""
    )
