"""Steps of DP-SGD by Opacus' hooks and ghost clipping, and through the door, of the same models in one process.

python bench/doors/opacus_door.py [--models mlp bert ...] [--samples 16 256]

The disagreement is that of all parameters after 50 steps in float64 with at most 16 samples, after 5 with more: in
float32 a unit that is rounded to the other side of zero is enough to part two runs that are both right.
"""

from __future__ import annotations

import argparse
import warnings
from importlib.metadata import version

import opacus
import torch
from door_rows import compared, write
from opacus_models import MODELS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradkernels.adapters.opacus import PrivacyEngine

LIBRARY = f"opacus {version('opacus')}"
KINDS = {"hooks": "hooks", "ghost clipping": "ghost"}
"""Modes of both engines by what is said of them."""

FEW, STEPS, STEPS_OF_MANY = 16, 50, 5
"""Steps of the proof, with so few samples and with more."""


def stepper(engine, make, mode, n):
    """Return a function that makes a step without noise, and the parameters that it changes."""
    task = make(n, own=type(engine) is opacus.PrivacyEngine)
    made = engine.make_private(
        module=task.model, optimizer=torch.optim.SGD(task.model.parameters(), 0.1), criterion=nn.CrossEntropyLoss(),
        data_loader=DataLoader(TensorDataset(task.x, task.y), batch_size=n), noise_multiplier=0.0,
        max_grad_norm=0.5, poisson_sampling=False, grad_sample_mode=mode,
    )  # fmt: skip
    private, optimizer = made[:2]
    criterion = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        task.loss(criterion, private(task.x)).backward()
        optimizer.step()

    return step, [*task.model.parameters()]


def apart(make, mode, n):
    """Return how far the parameters are apart after some steps, over the largest of them."""
    torch.set_default_dtype(torch.float64)
    ours, found = stepper(PrivacyEngine(), make, mode, n)
    own, expected = stepper(opacus.PrivacyEngine(), make, mode, n)
    for _ in range(STEPS if n <= FEW else STEPS_OF_MANY):
        ours(), own()
    torch.set_default_dtype(torch.float32)
    largest = max(float(one.detach().abs().max()) for one in expected)
    return max(float((a - b).detach().abs().max()) for a, b in zip(found, expected, strict=True)) / largest


def rows(name, n):
    """Compare steps of one model."""
    for kind, mode in KINDS.items():
        off = apart(MODELS[name], mode, n)
        ours, _ = stepper(PrivacyEngine(), MODELS[name], mode, n)
        own, _ = stepper(opacus.PrivacyEngine(), MODELS[name], mode, n)
        yield compared(("opacus", LIBRARY, f"{name}, {kind}", n), ours, own, off)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[*MODELS])
    parser.add_argument("--samples", type=int, nargs="*", default=[16, 256])
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in given.models:
        write([row for n in given.samples for row in rows(name, n)])
