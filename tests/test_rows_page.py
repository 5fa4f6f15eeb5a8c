"""What docs/rows.md computes is what it says: its code is run, its values held against plain torch and numpy."""

import contextlib
import io

import numpy as np
import pages
import pytest
import torch
from models import oracle
from scipy.sparse.linalg import lsqr

import gradkernels as gk


@pytest.fixture(scope="module")
def page():
    """The names that the page's code defines, and the rows of its first model from single samples."""
    names = {}
    code = [block.text for block in pages.blocks(pages.ROOT / "docs" / "rows.md") if block.language == "python"]
    with contextlib.redirect_stdout(io.StringIO()):
        for one in code:
            exec(one, names)
    rows = oracle(names["model"], torch.nn.CrossEntropyLoss(), names["x"], names["y"])
    return names, rows, torch.cat([one.flatten(1) for one in rows.values()], 1)


def close(found, want, tolerance=1e-4):
    np.testing.assert_allclose(np.asarray(found), np.asarray(want), rtol=tolerance, atol=1e-6)


def test_dp_sgd(page):
    names, rows, g = page
    factors = 1 / g.norm(dim=1).clamp(min=1)
    total = {name: torch.tensordot(factors, one, 1) for name, one in rows.items()}
    assert names["step"].keys() == total.keys()
    for name, one in total.items():
        close(names["step"][name], one)
    noise = [(100 * names["noisy"][name] - one).flatten() for name, one in total.items()]
    assert float(torch.cat(noise).std()) == pytest.approx(0.8, rel=0.25)  # five of its deviations, for 195 numbers


def test_several_uses_of_one_pass(page):
    names, _, g = page
    close(names["norms"], g.norm(dim=1))
    close(names["along"], g @ names["v"].double())
    close(names["solution"], lsqr(g.numpy(), g.norm(dim=1).numpy(), iter_lim=5)[0], 0.05)


def test_tracin_and_trak(page):
    names, _, g = page
    others = names["H"].dense().double()
    close((names["G"] @ names["H"].T), g @ others.T)
    kept = names["features"].double() @ names["features"].double().T
    gram = g @ g.T
    scale = torch.outer(g.norm(dim=1), g.norm(dim=1))
    assert names["features"].shape == (100, 64)
    assert float(((kept - gram) / scale).square().mean().sqrt()) < 0.2  # 1 / sqrt(64), and a half of that


def test_tangent_kernel(page):
    names, _, _ = page
    model = names["model"].double()
    jacobian = torch.func.jacrev(lambda theta: torch.func.functional_call(model, theta, names["x"].double())[:, 0])
    found = jacobian({name: one.detach() for name, one in model.named_parameters()})
    g = torch.cat([one.flatten(1) for one in found.values()], 1)
    model.float()
    close(names["tangent_kernel"], g @ g.T)


def test_recipes_have_three_lines_at_most():
    page = (pages.ROOT / "docs" / "rows.md").read_text().partition("## What people make of it")[2]
    blocks = [block.text.splitlines() for block in pages.blocks(pages.ROOT / "docs" / "rows.md") if block.text in page]
    made = [[line for line in one if line and not line.startswith(("print", "import", "from"))] for one in blocks]
    recipes = [one for one in made if not any(".draw(" in line for line in one)]  # the regression itself
    assert [len(one) for one in recipes] == [2, 1, 1, 3, 2, 2, 3]


def test_fisher_and_its_eigenvalues(page):
    names, _, g = page
    fisher = g.T @ g / 100
    close(names["fisher_v"], fisher @ names["v"].double())
    close(sorted(names["largest"]), torch.linalg.eigvalsh(fisher)[-2:])


def test_noise_scale(page):
    names, rows, _ = page
    for name, one in rows.items():
        mean = one.mean(0)
        spread = (one - mean).square().sum() / 100
        assert names["scale"][name] == pytest.approx(float(spread / mean.square().sum()), rel=1e-3)


def test_sandwich_covariances(page):
    names, *_ = page
    design, targets, users = names["design"], names["targets"], names["users"]
    residuals = targets - design @ names["theta"]
    hat = np.linalg.inv(design.T @ design)
    hc0 = hat @ (design.T * residuals**2) @ design @ hat
    close(names["robust"], np.sqrt(np.diag(hc0)), 1e-8)
    scores = [(design[users == user] * residuals[users == user, None]).sum(0) for user in range(50)]
    meat = sum(np.outer(one, one) for one in scores)
    close(names["clustered"], np.sqrt(np.diag(hat @ meat @ hat)), 1e-8)


def test_a_restricted_matrix(page):
    names, rows, _ = page
    close(names["head"].dense(), torch.cat([rows["2.weight"].flatten(1), rows["2.bias"]], 1))
    close(gk.flat(names["p"], parameters="2.*").join(names["head"].mean()), names["head"].dense().mean(0))
