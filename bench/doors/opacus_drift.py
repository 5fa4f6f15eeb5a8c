"""How far parameters in float32 are from single samples' gradients in float64, step by step: Opacus' and the door's.

python bench/doors/opacus_drift.py [--model resnet] [--samples 16] [--steps 12]

All start from one model that was drawn in float32. The reference clips the gradient of each sample, which has gone
through the model alone in float64.
"""

from __future__ import annotations

import argparse
import warnings

import opacus
import torch
from opacus_models import MODELS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradkernels.adapters.opacus import PrivacyEngine

RATE, LENGTH, STABILITY = 0.1, 0.5, 1e-6


def drawn(name, n, dtype):
    task = MODELS[name](n, own=True)
    x = task.x.to(dtype) if task.x.is_floating_point() else task.x
    return task.model.to(dtype), x, task


def by_engine(engine, given, n, steps):
    """Return the parameters after each step."""
    model, x, task = given
    private, optimizer, _ = engine.make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), RATE), noise_multiplier=0.0, max_grad_norm=LENGTH,
        data_loader=DataLoader(TensorDataset(x, task.y), batch_size=n), poisson_sampling=False,
    )  # fmt: skip
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(nn.CrossEntropyLoss(), private(x)).backward()
        optimizer.step()
        found.append([one.detach().double().clone() for one in model.parameters()])
    return found


def by_samples(given, n, steps):
    """Return the parameters after each step, from a pass for each sample."""
    model, x, task = given
    own, found = [*model.parameters()], []
    for _ in range(steps):
        total = [torch.zeros_like(one) for one in own]
        for i in range(n):
            rows = torch.autograd.grad(nn.functional.cross_entropy(model(x[i : i + 1]), task.y[i : i + 1]), own)
            length = sum(one.square().sum() for one in rows).sqrt()
            total = [a + (LENGTH / (length + STABILITY)).clamp(max=1) * b for a, b in zip(total, rows, strict=True)]
        with torch.no_grad():
            for one, of_all in zip(own, total, strict=True):
                one -= RATE * of_all / n
        found.append([one.detach().clone() for one in own])
    return found


def apart(found, expected):
    largest = max(float(one.abs().max()) for one in expected)
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)) / largest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    expected = by_samples(drawn(given.model, given.samples, torch.float64), given.samples, given.steps)
    for said, engine in (("gradkernels", PrivacyEngine), ("opacus", opacus.PrivacyEngine)):
        for dtype in (torch.float32, torch.float64):
            found = by_engine(engine(), drawn(given.model, given.samples, dtype), given.samples, given.steps)
            print(said, dtype, *(f"{apart(*pair):.0e}" for pair in zip(found, expected, strict=True)), flush=True)
