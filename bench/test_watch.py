"""What gk.watch costs a training loop: each step looked at, and each fiftieth.

    pytest bench/test_watch.py -s        # about 2 minutes, gradkernels[real]

Plain and watched steps of three copies of one model alternate in one process, each watch being left open as in a long
run. The ratio is of their fastest: of the processor's time, so that what else runs here has little part in it. What the
audits of the first steps cost (1, 2, 4, 8, ...) is told apart, as a ratio of sums over all these steps.

`products` is what bounds the first: the norms alone, by the same rules, from inputs and output gradients that one step
has left, without a pass, a hook, a proof or a history.
"""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from loop_models import made
from torch import nn

import gradkernels as gk
from gradkernels.watch.values.squared_norms import TogetherSquaredNorms

ROUNDS = 63
LIMITS = {"each step": 1.25, "other steps": 1.01}


def step_of(model, loss_fn, batch):
    """Return a function that runs a plain step and gives its seconds."""
    x, y = batch
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)

    def run():
        start = time.process_time()
        optimizer.zero_grad()
        loss_fn(model(**x) if isinstance(x, dict) else model(x), y).backward()
        optimizer.step()
        return time.process_time() - start

    return run


def products_of(model, step, n):
    """Return a function that forms the norms of a step's gradients again, and gives its seconds."""
    terms, take = [], TogetherSquaredNorms.__call__

    def keep(norms, use, g):
        terms.append((use, g))
        take(norms, use, g)

    with gk.watch(model, ["norms"]), mock.patch.object(TogetherSquaredNorms, "__call__", keep):
        step()
    theta = dict(model.named_parameters())

    def run():
        start = time.process_time()
        with torch.no_grad():
            norms = TogetherSquaredNorms(theta, (), n)
            for use, g in terms:
                norms(use, g)
            norms.finish()
        return time.process_time() - start

    return run


def seconds(model, loss_fn, batch):
    """Return the seconds of each step by kind: plain, each watched, those between two that are, and products alone."""
    models = {"plain": model, "each step": copy.deepcopy(model), "other steps": copy.deepcopy(model)}
    steps = {kind: step_of(one, loss_fn, batch) for kind, one in models.items()}
    steps["products"] = products_of(models["each step"], steps["each step"], len(batch[1]))
    found = {kind: [] for kind in steps}
    for _ in range(3):
        steps["plain"]()
    with ExitStack() as watches:
        watches.enter_context(gk.watch(models["each step"], ["norms"]))
        watches.enter_context(gk.watch(models["other steps"], ["norms"], every=10 * ROUNDS))
        steps["other steps"]()
        for _ in range(ROUNDS):
            for kind, step in steps.items():
                found[kind].append(step())
    return found


@pytest.mark.parametrize("name", ["cnn", "bert"])
def test_a_watched_step_costs_little_more_than_a_plain_one(name):
    torch.set_num_threads(1)
    problem, data = made(name)
    for module in problem.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = seconds(problem.model, problem.loss_fn, data(64 if name == "cnn" else 16))
    ratios = {kind: min(found[kind]) / min(found["plain"]) for kind in LIMITS}
    print(f"\n{name}, norms, products alone: {min(found['products']) / min(found['plain']):.3f}", flush=True)
    for kind, ratio in ratios.items():
        over_all = sum(found[kind]) / sum(found["plain"])
        print(
            f"\n{name}, norms, {kind}: {ratio:.3f} (limit {LIMITS[kind]}); {over_all:.3f} over {ROUNDS} steps with "
            "their audits",
            flush=True,
        )
    assert all(ratio <= LIMITS[kind] for kind, ratio in ratios.items())
