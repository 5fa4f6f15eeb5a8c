"""Laplace approximations of laplace-torch with its own backend and with ours, in one process.

python bench/doors/laplace_door.py [--tasks regression classes]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from door_rows import compared, write
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from real.stand_in import with_torchvision

TORCHVISION = with_torchvision()
warnings.simplefilter("ignore")
from laplace import Laplace  # noqa: E402
from laplace.curvature import CurvlinopsEF, CurvlinopsGGN  # noqa: E402

from gradkernels.adapters.laplace import EF, GGN  # noqa: E402

LIBRARY = f"laplace-torch {version('laplace-torch')}"
BACKENDS = {"ggn": (GGN, CurvlinopsGGN), "ef": (EF, CurvlinopsEF)}
"""Ours and the one that laplace-torch takes if nothing is said, by kind of curvature."""

BATCH = 256


def sinusoid():
    """Draw what laplace-torch's example of regression is fitted to, and its network, 1-50-1."""
    torch.manual_seed(711)
    x = torch.rand(150, 1) * 8
    return nn.Sequential(nn.Linear(1, 50), nn.Tanh(), nn.Linear(50, 1)), x, torch.sin(x) + torch.randn_like(x) * 0.3


def classes(n=512):
    """Draw classes of points in 32 dimensions, and an MLP."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10))
    return model, torch.randn(n, 32), torch.randint(10, (n,))


TASKS = {
    "regression of its example, full GGN": (sinusoid, "regression", "full", "ggn"),
    "classes by an MLP, diagonal GGN": (classes, "classification", "diag", "ggn"),
    "classes by an MLP, diagonal empirical Fisher": (classes, "classification", "diag", "ef"),
}


def fitted(task, backend):
    """Fit the approximation of all weights."""
    make, likelihood, structure, _ = task
    model, x, y = make()
    found = Laplace(model, likelihood, subset_of_weights="all", hessian_structure=structure, backend=backend)
    found.fit(DataLoader(TensorDataset(x, y), batch_size=BATCH))
    return found


def apart(found, expected):
    """Return the largest difference over the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max())


def rows(name):
    """Compare the fit, and the distribution of predictions at the points that it was fitted to."""
    task = TASKS[name]
    ours, own = (fitted(task, backend) for backend in BACKENDS[task[3]])
    _, x, _ = task[0]()
    yield compared(
        ("laplace", LIBRARY, f"{name}, fit", len(x)), lambda: fitted(task, BACKENDS[task[3]][0]),
        lambda: fitted(task, BACKENDS[task[3]][1]), apart(ours.H, own.H),
    )  # fmt: skip
    if task[3] == "ggn":
        x = x[:BATCH]
        off = apart(*(one._glm_predictive_distribution(x)[1] for one in (ours, own)))
        example = "laplace", LIBRARY, f"{name}, predictions", len(x)
        yield compared(example, lambda: ours(x), lambda: own(x), off)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=["regression", "classes"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in [one for one in TASKS if one.startswith(tuple(given.tasks))]:
        for row in rows(name):
            write([row])
