"""One step of DP-SGD at n = 256 by Opacus' hooks and ghost clipping, and through the door, in one process.

python bench/doors/opacus_door.py [--models mlp cnn resnet] [--samples 256]
"""

from __future__ import annotations

import argparse
import warnings
from importlib.metadata import version

import opacus
import torch
from door_rows import compared, write
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradkernels import zoo
from gradkernels.adapters.opacus import PrivacyEngine

LIBRARY = f"opacus {version('opacus')}"
KINDS = {  # mode of the door, mode of Opacus
    "hooks": ("hooks", "hooks"),
    "ghost clipping": ("ghost", "ghost"),
}


def batch(name, n):
    """Repeat the model's example to n samples."""
    x, y = getattr(zoo, name)().example
    repeats = -(-n // len(x))
    return torch.cat([x] * repeats)[:n], torch.cat([y] * repeats)[:n]


def stepper(engine, name, mode, data):
    """Return a function that makes a step without noise, and the parameters that it changes."""
    torch.manual_seed(0)
    model = getattr(zoo, name)().model.train()
    with torch.no_grad():
        for one in model.parameters():
            one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())) * 0.1)
    made = engine.make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), criterion=nn.CrossEntropyLoss(),
        data_loader=DataLoader(TensorDataset(*data), batch_size=len(data[0])), noise_multiplier=0.0,
        max_grad_norm=0.5, poisson_sampling=False, grad_sample_mode=mode,
    )  # fmt: skip
    private, optimizer = made[:2]
    criterion = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        criterion(private(data[0]), data[1]).backward()
        optimizer.step()

    return step, [*model.parameters()]


def rows(name, n):
    """Compare steps of one model, and parameters after the first of them."""
    data = batch(name, n)
    for kind, (mine, theirs) in KINDS.items():
        ours, found = stepper(PrivacyEngine(), name, mine, data)
        own, expected = stepper(opacus.PrivacyEngine(), name, theirs, data)
        ours(), own()
        largest = max(float(one.detach().abs().max()) for one in expected)
        off = max(float((a - b).detach().abs().max()) for a, b in zip(found, expected, strict=True)) / largest
        yield compared(("opacus", LIBRARY, f"{name}, {kind}", n), ours, own, off)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["mlp", "cnn", "resnet"])
    parser.add_argument("--samples", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    write([row for name in given.models for row in rows(name, given.samples)])
