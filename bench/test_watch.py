"""What gk.watch costs a training loop: each step looked at, and each fiftieth.

    pytest bench/test_watch.py -s        # about 2 minutes, gradkernels[real]

Plain and watched steps of one model alternate in one process, and the ratio is of their fastest: of the processor's
time, so that what else runs here has little part in it.
"""

from __future__ import annotations

import time

import pytest
import torch
from loop_models import made
from torch import nn

import gradkernels as gk

ROUNDS, STEPS = 12, 3
LIMITS = {"each step": 1.25, "other steps": 1.01}


def steps_of(model, loss_fn, batch):
    """Return a function that runs some plain steps and gives the seconds of one."""
    x, y = batch
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)

    def run():
        start = time.process_time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_fn(model(**x) if isinstance(x, dict) else model(x), y).backward()
            optimizer.step()
        return (time.process_time() - start) / STEPS

    return run


def ratios(model, run):
    """Return the seconds of watched steps over those of plain ones, by kind."""
    plain, looked, others = [], [], []
    run()
    with gk.watch(model, ["norms"]):
        run()
    for _ in range(ROUNDS):
        plain.append(run())
        with gk.watch(model, ["norms"]):
            run()  # what is settled at the first steps
            looked.append(run())
        with gk.watch(model, ["norms"], every=50):
            run()
            others.append(run())
    return {"each step": min(looked) / min(plain), "other steps": min(others) / min(plain)}


@pytest.mark.parametrize("name", ["cnn", "bert"])
def test_a_watched_step_costs_little_more_than_a_plain_one(name):
    torch.set_num_threads(1)
    problem, data = made(name)
    for module in problem.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = ratios(problem.model, steps_of(problem.model, problem.loss_fn, data(64 if name == "cnn" else 16)))
    for kind, ratio in found.items():
        print(f"\n{name}, norms, {kind}: {ratio:.3f} (limit {LIMITS[kind]})", flush=True)
    assert all(ratio <= LIMITS[kind] for kind, ratio in found.items())
