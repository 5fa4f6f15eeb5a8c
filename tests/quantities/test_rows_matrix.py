"""The matrix of all gradients, and flat rows."""

import numpy as np
import pytest
import torch
from hand_worked import THETA, P, X, Y, close, wide

import gradkernels as gk


def test_the_matrix_of_rows_is_what_its_rows_say(module):
    problem, x, y, rows = module
    g, matrix = wide(rows), gk.rows(problem, None, x, y)
    assert matrix.shape == (6, 45) == tuple(g.shape)
    assert repr(matrix) == f"Rows({problem.name}, 6 x 45)"
    v, w = torch.randn(45, 2, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    close(matrix @ v, g @ v)
    close(matrix @ v[:, 0], g @ v[:, 0])
    close(matrix @ gk.flat(problem).split(v[:, 0]), g @ v[:, 0])
    close(w @ matrix, w @ g)
    close(w[0] @ matrix, w[0] @ g)
    close(matrix.T @ w.T, g.T @ w.T)
    close(matrix @ matrix.T, g @ g.T)
    close(matrix[:2] @ matrix[3:].T, g[:2] @ g[3:].T)
    close(matrix.norms(), g.norm(dim=1))
    close(matrix.dense(), g)
    close(matrix[1:3].dense(), g[1:3])
    close(matrix[::-2].dense(), g.flip(0)[::2])
    close(gk.flat(problem).join(matrix.mean()), g.mean(0))
    close(gk.flat(problem).join(matrix.variance()), g.var(0, correction=0))
    factors_ = (0.5 / g.norm(dim=1)).clamp(max=1)
    close(gk.flat(problem).join(matrix.clipped_sum(0.5)), factors_ @ g)
    close(matrix.project(8, seed=3), gk.project(problem, None, x, y, size=8, seed=3))


def test_the_matrix_of_rows_is_multiplied_by_what_fits_it():
    matrix = gk.rows(P, THETA, X, Y)
    assert (matrix @ [1.0, 10.0]).tolist() == [2, -22, -84]
    assert ([1.0, 2.0, 0.5] @ matrix).tolist() == (matrix.T @ [1.0, 2.0, 0.5]).tolist() == [-4, -8]
    assert matrix[np.int64(1)].dense().tolist() == matrix[-2].dense().tolist() == [[-2, -2]]
    assert (matrix @ gk.rows(P, THETA.copy(), X[:1], Y[:1]).T).tolist() == [[4], [-4], [-8]]
    with pytest.raises(IndexError):
        matrix[3]
    other = r"^G @ H\.T has one problem and one theta for both; compute G\.dense\(\) @ H\.dense\(\)\.T where they"
    for another in (gk.rows(P, THETA + 1, X, Y), gk.rows(gk.LinearRegression(l2=1.0), THETA, X, Y)):
        with pytest.raises(ValueError, match=other):
            matrix @ another.T
    with pytest.raises(TypeError, match=r"^v is a Rows; multiply by an array, or by the transpose H.T of rows$"):
        matrix @ matrix
    with pytest.raises(TypeError, match=r"^v is a float; multiply by an array"):
        matrix @ 2.0
    with pytest.raises(ValueError, match=r"^v is \(3, 2\); it must be \(2,\) or \(2, K\)$"):
        matrix @ np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"^w is \(4,\); it must be \(3,\) or \(K, 3\)$"):
        np.zeros(4) @ matrix
    with pytest.raises(ValueError, match=r"^w is \(2, 3\); it must be \(3,\) or \(3, K\)$"):
        matrix.T @ np.zeros((2, 3))


def test_the_matrix_of_a_regression_looks_at_its_arrays():
    with pytest.raises(TypeError, match=r"^theta is None; linear has no parameters of its own, pass them$"):
        gk.rows(P, None, X, Y)
    with pytest.raises(TypeError, match=r"^theta is a builtins.list; allowed are arrays of numpy, torch, jax"):
        gk.rows(P, [0.0, 0.0], X, Y)
    with pytest.raises(ValueError, match=r"theta must be \(4,\) for 3 features, intercept first$"):
        gk.rows(P, THETA, np.ones((3, 3)), Y)
    with pytest.raises(TypeError, match=r"^problem is a int; pass a Problem"):
        gk.rows(3, THETA, X, Y)


def test_scipy_runs_on_the_matrix(module):
    from scipy.sparse.linalg import lsqr, svds

    problem, x, y, rows = module
    g, operator = wide(rows).numpy(), gk.rows(problem, None, x, y).linear_operator()
    found = svds(operator, k=3, return_singular_vectors=False)
    np.testing.assert_allclose(np.sort(found), np.sort(np.linalg.svd(g, compute_uv=False))[-3:], rtol=1e-8)
    target = np.arange(6.0)
    np.testing.assert_allclose(g @ lsqr(operator, target, atol=1e-12, btol=1e-12)[0], target, atol=1e-6)
    numpy_rows = gk.rows(P, THETA, X, Y)
    np.testing.assert_allclose(numpy_rows.linear_operator() @ np.array([1.0, 10.0]), [2, -22, -84])
    np.testing.assert_allclose(np.array([1.0, 2.0, 0.5]) @ numpy_rows, [-4, -8])


def test_flat_rows_and_where_parameters_are_in_them(module):
    problem, x, y, rows = module
    layout = gk.flat(problem)
    assert layout.slices == {"0.weight": slice(0, 12), "0.bias": slice(12, 15), "3.weight": slice(15, 42),
                             "3.bias": slice(42, 45)} | {}  # fmt: skip
    close(gk.per_sample(problem, None, x, y, flat=True), wide(rows))
    memory = torch.full((6, len(layout)), torch.nan, dtype=torch.float64)
    assert gk.per_sample(problem, None, x, y, flat=True, out=memory) is memory
    close(memory, wide(rows))
    with pytest.raises(ValueError, match=r"^out is \(6, 3\); it must be \(6, 45\)$"):
        gk.per_sample(problem, None, x, y, flat=True, out=memory[:, :3])


def test_samples_are_chosen_by_numbers_slices_and_truth_values(module):
    problem, x, y, rows = module
    g, matrix = wide(rows), gk.rows(problem, None, x, y)
    for chosen in ([2, 0], [], [True] + [False] * 5, np.array([-1, 0]), torch.arange(6) > 3):
        close(matrix[chosen].dense(), g[torch.as_tensor(np.asarray(chosen, None if len(chosen) else int))])
    for odd in (1.5, None, "a", (1, 2), True, [[0, 1]], [0.5]):
        with pytest.raises(IndexError, match=r"^samples are .*; choose by number, slice, or a list of numbers or"):
            matrix[odd]


def test_the_transposes_transpose_numpys_array_and_complex_vectors(module):
    problem, x, y, rows = module
    g, matrix = wide(rows), gk.rows(problem, None, x, y)
    assert matrix.T.T is matrix
    np.testing.assert_allclose(np.asarray(matrix), g, rtol=1e-8, atol=1e-10)
    v = np.arange(45) + 1j
    np.testing.assert_allclose(matrix.linear_operator() @ v, g.numpy() @ v, rtol=1e-8, atol=1e-10)


def test_a_model_that_trains_other_parameters_needs_another_matrix():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    matrix = gk.rows(gk.ModuleProblem(model, torch.nn.MSELoss()), None, torch.ones(2, 2), torch.ones(2, 1))
    model[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"^the model trains other parameters than when gk\.rows .*: 0\.weight; "):
        matrix.norms()
    model[0].weight.requires_grad_(True)
    model[1] = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"^the model trains other parameters .*: 1\.bias, 1\.weight; call gk\.rows"):
        matrix @ torch.ones(13)
