"""What a training loop keeps: the figures of `loop_cells.py` that are memory."""

from __future__ import annotations

import ctypes
import gc
from functools import partial
from pathlib import Path

import torch
from loop_models import clip, large, plain, real, tell
from torch import nn

import gradkernels as gk
from gradkernels.bench.timing.peak_memory import peak_bytes

STEPS = 1000
MEGABYTES = 2**20


def resident():
    """Bytes in use once everything that is free has been returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def kept(name):
    """What stays after first calls of five quantities, their results gone, over the parameters."""
    problem, x, y = large()
    plain(problem, x, y)
    before, parameters = resident(), sum(one.nbytes for one in problem.parameters().values())
    for quantity in ("gradient", "per_sample", "norms", "moments", "clipped_sum"):
        getattr(gk, quantity)(problem, None, x, y)
    tell("kept after five quantities, over the parameters", "20M parameters", None,
         max(0, resident() - before) / parameters, 1.0)  # fmt: skip


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
    trained = problem.parameters()
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
