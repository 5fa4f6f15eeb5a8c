"""Batches of random images, and three ways to project the gradients of a small CNN of them into a file."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import gradkernels as gk

BATCH, SIZE = 250, 512


class Images:
    """Batches of random images and classes, the same each time; a loader that may wait for each."""

    def __init__(self, batches, wait=0.0):
        self.batches, self.wait = batches, wait

    def __len__(self):
        return self.batches

    def __iter__(self):
        for number in range(self.batches):
            generator = torch.Generator().manual_seed(number)
            time.sleep(self.wait)
            images = torch.randn(BATCH, 1, 16, 16, generator=generator)
            yield images, torch.randint(10, (BATCH,), generator=generator)


def small_cnn():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)
    return nn.Sequential(*layers)


MODEL, LOSS = small_cnn(), nn.CrossEntropyLoss()
PROBLEM = gk.ModuleProblem(MODEL, LOSS)
ENTRIES = sum(one.numel() for one in MODEL.parameters())


def ours(images, folder):
    gk.over(images, progress=False).project(PROBLEM, size=SIZE, out=folder / "ours.npy")
    for one in folder.glob("ours.npy*"):  # which a second call would read
        one.unlink()


def by_hand(images, folder):
    """Write what people write: vmap of grad, a matrix held whole, a memory map."""
    theta = {name: one.detach() for name, one in MODEL.named_parameters()}
    rows = vmap(grad(lambda t, x, y: LOSS(functional_call(MODEL, t, x[None]), y[None])), (None, 0, 0))
    matrix = torch.randn(ENTRIES, SIZE, generator=torch.Generator().manual_seed(0)) / SIZE**0.5
    shape = len(images) * BATCH, SIZE
    out = np.lib.format.open_memmap(folder / "hand.npy", "w+", np.float32, shape)
    for number, (x, y) in enumerate(images):
        flat = torch.cat([one.flatten(1) for one in rows(theta, x, y).values()], 1)
        out[number * BATCH : (number + 1) * BATCH] = (flat @ matrix).numpy()
    out.flush()


def by_trak(images, folder):
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    projector = BasicProjector(ENTRIES, SIZE, 0, ProjectionType.normal, "cpu", SIZE)
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        given = {"save_dir": saved, "device": "cpu", "proj_dim": SIZE, "use_half_precision": False, "logging_level": 40}
        traker = TRAKer(MODEL, "image_classification", len(images) * BATCH, projector=projector, **given)
        traker.load_checkpoint(MODEL.state_dict(), model_id=0)
        for x, y in images:
            traker.featurize([x, y], num_samples=len(x))
