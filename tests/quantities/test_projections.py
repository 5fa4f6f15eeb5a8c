"""Random projections of gradients: the same in every process, and no matrix is held whole."""

import numpy as np
import pytest
import torch
from hand_worked import close, wide
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.quantities import project
from gradkernels.quantities.shared import projections
from gradkernels.quantities.shared.projections import blocks_of_matrix, factors


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
def test_projections_of_a_module(module, kind):
    problem, x, y, rows = module
    matrices = []
    for name, g in rows.items():
        shape = tuple(g.shape[1:])
        if kind == "factored" and len(shape) > 1:
            outputs, inputs = factors(3, name, shape, 8)
            assert (outputs.shape, inputs.shape) == ((2, shape[0]), (4, g[0].numel() // shape[0]))
            matrices.append(np.einsum("ab,cd->acbd", outputs, inputs).reshape(8, -1))
        else:
            matrices.append(np.concatenate([block for _, block in blocks_of_matrix(3, name, shape, 8)], 1))
    found = gk.project(problem, None, x, y, size=8, seed=3, kind=kind)
    close(found, wide(rows) @ torch.from_numpy(np.concatenate(matrices, 1)).T)
    again = gk.project(problem, None, x[2:3], y[2:3], size=8, seed=3, kind=kind)
    close(again, found[2:3])  # the same matrix for every batch
    other = gk.project(problem, None, x, y, size=8, seed=4, kind=kind)
    assert (other - found).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap"])
def test_parameters_without_entries_have_projections_of_zero(way, kind):
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    model.none = nn.Parameter(torch.zeros(0, dtype=torch.float64))
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    found = gk.project(gk.ModuleProblem(model, nn.MSELoss()), None, x, y, size=4, kind=kind, kernel=way)
    del model.none
    close(found, gk.project(gk.ModuleProblem(model, nn.MSELoss()), None, x, y, size=4, kind=kind, kernel=way))


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
def test_projections_keep_inner_products(kind):
    """Unbiased, with the spread of Johnson and Lindenstrauss for the gaussian: var = (|g|^2 |h|^2 + (g.h)^2) / size."""
    rng, size, shape = np.random.default_rng(0), 16, (6, 5)
    g, h = rng.standard_normal((2, *shape))
    estimates = []
    for seed in range(600):
        if kind == "gaussian":
            ((_, matrix),) = blocks_of_matrix(seed, "w", shape, size)
            one, two = matrix @ g.ravel(), matrix @ h.ravel()
        else:
            outputs, inputs = factors(seed, "w", shape, size)
            one, two = (outputs @ part @ inputs.T for part in (g, h))
        estimates.append((one * two).sum())
    exact, spread = (g * h).sum(), np.std(estimates)
    assert abs(np.mean(estimates) - exact) < 4 * spread / 600**0.5
    if kind == "gaussian":
        expected = (((g**2).sum() * (h**2).sum() + exact**2) / size) ** 0.5
        assert 0.87 < spread / expected < 1.15  # a standard deviation of 600 draws is known to 3%


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
def test_no_projection_holds_its_matrix_whole(monkeypatch, kind):
    """Of a large model it is larger than the machine: blocks are made once for all samples, and in checks too."""
    made = []
    generate = projections._generator
    monkeypatch.setattr(projections, "_generator", lambda *given: made.append(given) or generate(*given))
    monkeypatch.setattr(projections, "BLOCK_ENTRIES", 64)
    monkeypatch.setattr("gradkernels.engines.hooks.parameter_use.ROW_BLOCK_BYTES", 1)
    projections.forget_blocks()
    torch.manual_seed(0)
    model, loss = nn.Linear(40, 6).double(), nn.MSELoss()
    x, y = torch.randn(5, 40, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    compute = gk.kernel("torch.hooks.project").build(gk.ModuleProblem(model, loss))
    found = compute(dict(model.named_parameters()), x, y, size=8, seed=1, kind=kind)
    assert len(made) == {"gaussian": 30, "factored": 2}[kind] + 1
    dense = [
        np.kron(*factors(1, name, tuple(part.shape), 8))
        if kind == "factored" and part.ndim > 1
        else np.concatenate([block for _, block in blocks_of_matrix(1, name, tuple(part.shape), 8)], 1)
        for name, part in model.named_parameters()
    ]
    close(found, wide(oracle(model, loss, x, y)) @ torch.from_numpy(np.concatenate(dense, 1)).T)
    pieces = [block for _, block in project.matrix_blocks(model.state_dict(), 8, 1, kind)]
    assert max(piece.size for piece in pieces) <= 8 * 40
    np.testing.assert_allclose(np.concatenate(pieces, 1), np.concatenate(dense, 1), rtol=1e-15)


def test_blocks_of_a_projection_are_the_same_wherever_they_are_made(monkeypatch):
    whole = np.concatenate([block for _, block in blocks_of_matrix(0, "w", (7, 3), 4)], 1)
    monkeypatch.setattr("gradkernels.quantities.shared.projections.BLOCK_ENTRIES", 4 * 21)
    assert [at for at, _ in blocks_of_matrix(0, "w", (7, 3), 4)] == [slice(0, 21)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks_of_matrix(0, "w", (7, 3), 4)], 1), whole)
    # No later version may change them: what was projected with them is compared with what will be.
    np.testing.assert_allclose(whole[0, :3], [-0.34502046344306514, 0.7988108756461304, 0.30457381635464864])
