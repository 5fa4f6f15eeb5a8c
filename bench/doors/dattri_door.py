"""TracIn of dattri with its own task and through the door: an MLP on images of 28 x 28, as its MNIST examples.

python bench/doors/dattri_door.py [--samples 64]
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import torch
from dattri.algorithm.tracin import TracInAttributor
from dattri.task import AttributionTask as OwnTask
from door_rows import compared, write
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from gradkernels.adapters.dattri import AttributionTask

TESTS, BATCH = 16, 32
LIBRARY = f"dattri {version('dattri')}"


def task(kind):
    """Make a task of an MLP with one checkpoint."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )

    def loss(params, data):
        x, y = data
        return cross_entropy(torch.func.functional_call(model, params, x.unsqueeze(0)), y.unsqueeze(0))

    return kind(loss_func=loss, model=model, checkpoints=model.state_dict())


def images(n):
    """Draw images and labels."""
    return torch.randn(n, 1, 28, 28), torch.randint(10, (n,))


def measure(n):
    """Yield a row for the gradient function, and one for TracIn."""
    both, batch = [task(kind) for kind in (AttributionTask, OwnTask)], images(BATCH)
    functions = [one.get_grad_loss_func((None, 0)) for one in both]
    parameters = both[0].get_param()[0].detach()
    found, wanted = (function(parameters, batch) for function in functions)
    ours, own = (lambda function=function: function(parameters, batch) for function in functions)
    off = float((found - wanted).abs().max() / wanted.abs().max())
    yield compared(("dattri", LIBRARY, "gradients of an MLP", BATCH), ours, own, off)

    train, test = (DataLoader(TensorDataset(*images(count)), BATCH) for count in (n, TESTS))
    attributors = [TracInAttributor(one, [0.1], normalized_grad=False, device="cpu") for one in both]
    found, wanted = (one.attribute(train, test) for one in attributors)
    ours, own = (lambda one=one: one.attribute(train, test) for one in attributors)
    off = float((found - wanted).abs().max() / wanted.abs().max())
    yield compared(("dattri", LIBRARY, f"TracIn of an MLP on {TESTS} tests", n), ours, own, off)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    torch.set_num_threads(1)
    for row in measure(parser.parse_args().samples):
        write([row])
