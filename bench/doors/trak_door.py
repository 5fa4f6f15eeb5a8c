"""TRAK's gradients of a CIFAR ResNet-9, and features of a CNN, by its own computer and through the door.

python bench/doors/trak_door.py [--samples 16]
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.metadata import version

import numpy as np
import torch
from captum_door import network
from door_rows import compared, write
from torch import nn
from trak import TRAKer
from trak.gradient_computers import FunctionalGradientComputer
from trak.modelout_functions import ImageClassificationModelOutput
from trak.projectors import BasicProjector

from gradkernels.adapters.trak import GradientComputer, projected
from gradkernels.quantities.project import project_rows

LIBRARY = f"traker {version('traker')}"
SIZE = 512
"""Dimensions of a feature, as in TRAK's examples on small models."""


class Residual(nn.Module):
    """A block and its input."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        """Add both."""
        return x + self.layers(x)


def block(inner, outer, size=3, stride=1, padding=1):
    """Make a convolution with normalization."""
    convolution = nn.Conv2d(inner, outer, size, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU(inplace=True))


def resnet9():
    """Make the network of TRAK's CIFAR example."""
    torch.manual_seed(0)
    return nn.Sequential(
        block(3, 64), block(64, 128, 5, 2, 2), Residual(block(128, 128), block(128, 128)), block(128, 256),
        nn.MaxPool2d(2), Residual(block(256, 256), block(256, 256)), block(256, 128, padding=0),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(128, 10, bias=False),
    ).eval()  # fmt: skip


def images(n, seed=0):
    """Draw images and labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.randint(10, (n,), generator=generator)


def rows(n):
    """Compare gradients."""
    model, task, batch = resnet9(), ImageClassificationModelOutput(), images(n)
    own, ours = (kind(model, task, 0, torch.float32, "cpu") for kind in (FunctionalGradientComputer, GradientComputer))
    wanted, found = own.compute_per_sample_grad(batch), ours.compute_per_sample_grad(batch)
    largest = max(float(one.detach().abs().max()) for one in wanted.values())
    off = max(float((found[name] - one).detach().abs().max()) for name, one in wanted.items()) / largest
    del wanted, found
    example = ("trak", LIBRARY, "ResNet-9, gradients", n)
    return compared(
        example, lambda: ours.compute_per_sample_grad(batch), lambda: own.compute_per_sample_grad(batch), off
    )


def features(n, kind):
    """Compare features: rows and trak's projector for CPUs, and projections of a kind within the pass."""
    model, task, batch = network(), ImageClassificationModelOutput(), images(n)
    given = model, task, 0, torch.float32, "cpu"
    own, ours = FunctionalGradientComputer(*given), projected(SIZE, kind=kind)(*given)
    entries = sum(one.numel() for one in model.parameters())
    projector = BasicProjector(entries, SIZE, 0, "normal", torch.device("cpu"))
    wanted = 0  # trak's rows by the matrix that the door has
    for name, rows in own.compute_per_sample_grad(batch).items():
        shape = tuple(rows.shape[1:])
        wanted = wanted + project_rows(rows.detach().flatten(1), name, shape, SIZE, 0, kind) * SIZE**0.5
    off = float((ours.compute_per_sample_grad(batch) - wanted).abs().max() / wanted.abs().max())
    return compared(
        ("trak", LIBRARY, f"CNN, {kind} features in {SIZE} dimensions", n),
        lambda: ours.compute_per_sample_grad(batch),
        lambda: projector.project(own.compute_per_sample_grad(batch), model_id=0),
        off,
    )


def scores(computer, model, samples):
    """Run TRAK's quickstart on two checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model, "image_classification", samples, folder, device="cpu", gradient_computer=computer, logging_level=50,
            use_half_precision=False, proj_dim=8,
        )  # fmt: skip
        for number in range(2):  # trak's projector cannot go on with the checkpoint that it ended with
            traker.load_checkpoint(model.state_dict(), model_id=number)
            traker.featurize(images(samples), num_samples=samples)
        traker.finalize_features()
        for number in range(2):
            traker.start_scoring_checkpoint("targets", model.state_dict(), number, 4)
            traker.score(images(4, 1), num_samples=4)
        return np.array(traker.finalize_scores("targets"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=16)
    torch.set_num_threads(1)
    n = parser.parse_args().samples
    both = [scores(kind, resnet9(), n).ravel() for kind in (FunctionalGradientComputer, GradientComputer)]
    print(f"scores correlate by 1 - {1 - np.corrcoef(*both)[0, 1]:.1g}")
    write([rows(n)])
    for kind in ("gaussian", "factored"):
        write([features(n, kind)])
