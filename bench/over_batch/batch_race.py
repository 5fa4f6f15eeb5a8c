"""The turns of one cell: a plain batch, the writing of rows, our kernels and the best of the peers."""

from __future__ import annotations

from functools import partial
from statistics import median

import torch

from gradkernels.bench.timing.prepared_kernel import PreparedKernel
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, time_slice, warm_up
from gradkernels.key import BANDWIDTH, BATCH

WRITE = BANDWIDTH + "write"
ROUNDS, MOST_SECONDS = 8, 6.0
WARM_SECONDS = 0.15
TRIALS, BEST = 3, 2
"""Slices of each peer by itself, and how many of the peers take turns with the rest."""


def clock_of(device):
    """What measures a slice: on CUDA events, since work goes on when a call has returned."""
    return cuda_slice if device.startswith("cuda") else time_slice


def cuda_slice(call, iterations):
    """Mean seconds per call over `iterations` calls, by CUDA events on the current stream."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(iterations):
        call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) * 1e-3 / iterations


def plain(model, loss_fn, parameters, x, y):
    """Forward and backward pass of the batch's loss, as a training step has it."""
    output = model(**x) if isinstance(x, dict) else model(x)
    return torch.autograd.grad(loss_fn(output, y), parameters, allow_unused=True)


def yardsticks(case, arrays):
    """A plain batch, and for rows the filling of warm memory of their size."""
    (_, x, y), problem, clock = arrays, case.problem, clock_of(case.device)
    batch = partial(plain, problem.model, problem.loss_fn, list(problem.parameters().values()), x, y)
    found = [PreparedKernel(TimedCall(BATCH, batch, clock=clock), "torch", batch)]
    if case.quantity.name == "per_sample":
        rows = torch.empty(case.n * case.parameters, device=case.device)
        fill = partial(rows.fill_, 0.0)
        found.append(PreparedKernel(TimedCall(WRITE, fill, clock=clock), "torch", fill, least_bytes=rows.nbytes))
    return found


def race(own, peers, beside, seconds, rng, beat):
    """Time everything: peers one by one, then the best of them in turns with the rest.

    Args:
        own: Our kernels, prepared, as all that follow.
        peers: Those of other libraries; all but the best keep the slices that they had by themselves.
        beside: Yardsticks, which take turns as well.
        seconds: For the turns, at least.
        rng: Draws the orders.
        beat: Called before each slice.

    Returns:
        Seconds of a call of each peer, by key.
    """
    for timed in (one.timed for one in peers):
        warm_up(timed, WARM_SECONDS, beat)
        timed.slices.extend(timed.clock(timed.call, timed.iterations) for _ in range(TRIALS))
    best = sorted(peers, key=lambda one: median(one.timed.slices))[:BEST]
    turns, each = [one.timed for one in (*own, *beside, *best)], 0.0
    for timed in turns:
        timed.slices.clear()
        warm_up(timed, WARM_SECONDS, beat)
        each += timed.clock(timed.call, timed.iterations) * timed.iterations
    seconds = max(seconds, min(ROUNDS * each, MOST_SECONDS))
    time_interleaved(turns, seconds, lambda: None, rng, beat)
    return {one.timed.name: median(one.timed.slices) for one in peers}
