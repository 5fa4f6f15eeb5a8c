"""Called inside autocast, the model computes in half precision; what is asked of its gradients does not."""

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.quantities.project import project_rows
from gradkernels.tree import leaves

WEIGHTS, GROUPS = torch.tensor([1.0, -2, 0.5, 3, 1, 0.1]), torch.tensor([0, 0, 1, 1, 2, 2])
ASKED = {
    "norms": {}, "gram": {}, "inner": {"v": None}, "outer": {}, "project": {"size": 8},
    "weighted_sum": {"weights": WEIGHTS}, "group_sums": {"groups": GROUPS, "count": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    x, y = torch.randn(6, 8), torch.randint(4, (6,))
    compute = gk.kernel("torch.loop.per_sample").build(problem)
    with torch.autocast("cpu", torch.bfloat16):
        rows = compute(problem.parameters(), x, y)
    assert {one.dtype for one in rows.values()} == {torch.float32}
    return problem, x, y, rows


def by_hand(quantity, rows, options):
    """Compute a quantity from rows in float64."""
    flat = torch.cat([one.flatten(1) for one in rows.values()], 1).double()
    if quantity == "project":
        parts = {name: one.double().flatten(1) for name, one in rows.items()}
        return sum(project_rows(one, name, rows[name].shape[1:], 8, 0, "gaussian") for name, one in parts.items())
    if quantity == "inner":
        return flat @ torch.cat([one.flatten() for one in options["v"].values()]).double()
    if quantity == "group_sums":
        return torch.stack([flat[group == GROUPS].sum(0) for group in range(3)])
    found = {"norms": flat.norm(dim=1), "gram": flat @ flat.T, "outer": flat.T @ flat}
    return found[quantity] if quantity in found else WEIGHTS.double() @ flat


@pytest.mark.parametrize("quantity", ASKED)
def test_what_is_composed_of_rows_is_as_exact_as_they_are(made, quantity):
    problem, x, y, rows = made
    theta, options = problem.parameters(), dict(ASKED[quantity])
    if "v" in options:
        options["v"] = {name: torch.randn_like(one) for name, one in theta.items()}
    compute = gk.kernel(f"torch.loop+.{quantity}").build(problem)
    with torch.autocast("cpu", torch.bfloat16):
        found = leaves(compute(theta, x, y, **options))
    assert {one.dtype for one in found} == {torch.float32}
    want = by_hand(quantity, rows, options)
    flat = torch.cat([one.reshape(3, -1) if quantity == "group_sums" else one.flatten() for one in found], -1)
    torch.testing.assert_close(flat.double(), want.reshape(flat.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quantity", ["gram", "inner", "outer"])
def test_what_is_chosen_gives_the_dtype_of_the_parameters(made, quantity):
    problem, x, y, _ = made
    options = {"v": {name: one.detach() for name, one in problem.parameters().items()}} if quantity == "inner" else {}
    with torch.autocast("cpu", torch.bfloat16):
        found = getattr(gk, quantity)(problem, None, x, y, **options)
    assert found.dtype == torch.float32
