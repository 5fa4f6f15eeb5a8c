"""Influences of captum's TracInCP by itself and through the door: a CNN, all training samples on some test samples.

python bench/doors/captum_door.py [--samples 256]
"""

from __future__ import annotations

import argparse
import warnings
from importlib.metadata import version

import torch
from captum.influence import TracInCP as OwnTracInCP
from door_rows import compared, write
from torch import nn
from torch.utils.data import TensorDataset

from gradkernels.adapters.captum import TracInCP

TESTS, BATCH = 16, 64
LIBRARY = f"captum {version('captum')}"


def network():
    """Make a network of the size of LeNet, in layers that captum's trick for whole batches knows."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 120), nn.ReLU(), nn.Linear(120, 10),
    ).eval()  # fmt: skip


def images(n):
    """Draw images and labels."""
    return torch.randn(n, 3, 32, 32), torch.randint(10, (n,))


def measure(n):
    """Yield a row for captum's way of one sample at a time, and for its trick for a batch."""
    warnings.simplefilter("ignore")
    train, test = TensorDataset(*images(n)), images(TESTS)
    kinds = {
        "one by one": ({"loss_fn": nn.CrossEntropyLoss(reduction="none")}, OwnTracInCP),
        "whole batches": ({"loss_fn": nn.CrossEntropyLoss(), "sample_wise_grads_per_batch": True}, OwnTracInCP),
    }
    for name, (options, kind) in kinds.items():
        own, ours = (
            one(network(), train, ["last"], lambda model, checkpoint: 1.0, batch_size=BATCH, **options)
            for one in (kind, TracInCP)
        )
        wanted = own.influence(test)
        off = float((ours.influence(test) - wanted).abs().max() / wanted.abs().max())
        example = ("captum", LIBRARY, f"TracInCP of a CNN on {TESTS} tests, captum by {name}", n)
        yield compared(example, lambda ours=ours: ours.influence(test), lambda own=own: own.influence(test), off)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=256)
    torch.set_num_threads(1)
    write([*measure(parser.parse_args().samples)])
