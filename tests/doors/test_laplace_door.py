"""laplace-torch with its own gradients and Jacobians, and with ours."""

import importlib.util
import warnings

import pytest
import torch
from real.stand_in import with_torchvision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

if importlib.util.find_spec("laplace") is None:
    pytest.skip("needs laplace-torch", allow_module_level=True)
TORCHVISION = with_torchvision()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its own libraries say when they are imported
    from laplace import Laplace
    from laplace.curvature import EFInterface, GGNInterface

from gradkernels.adapters.laplace import EF, GGN  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


X = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = {"classification": torch.arange(6) % 3, "regression": X[:, :3].clone()}


@pytest.mark.parametrize("indices", [None, torch.tensor([0, 3, 50])], ids=["all", "subnetwork"])
@pytest.mark.parametrize("likelihood", Y)
def test_gradients_and_jacobians_are_those_of_laplace(likelihood, indices):
    model = network()
    own, ours = (kind(model, likelihood, subnetwork_indices=indices) for kind in (GGNInterface, GGN))
    for found, wanted in zip(
        (*ours.gradients(X, Y[likelihood]), *ours.jacobians(X)),
        (*own.gradients(X, Y[likelihood]), *own.jacobians(X)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("own", "ours"), [(GGNInterface, GGN), (EFInterface, EF)])
def test_curvatures_are_those_of_laplace(own, ours):
    model = network()
    for structure in ("full", "diag"):
        wanted, found = (
            getattr(kind(model, "classification"), structure)(X, Y["classification"]) for kind in (own, ours)
        )
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-9, atol=1e-12)


def test_a_fit_is_that_of_laplace_own_backend():
    loader, fits = DataLoader(TensorDataset(X, Y["classification"]), batch_size=4), []
    for backend in (GGNInterface, GGN):
        options = {"subset_of_weights": "all", "hessian_structure": "full", "backend": backend}
        fits.append(Laplace(network(), "classification", **options))
        fits[-1].fit(loader)
    torch.testing.assert_close(fits[1].H, fits[0].H, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fits[1](X), fits[0](X), rtol=1e-9, atol=1e-12)
