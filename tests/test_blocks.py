"""numpy.blocked and torch.closed: seams between blocks, accuracy of long sums, memory, and calls at the same time."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from first_five import FIVE
from matrices import matrix

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.problems import REGRESSIONS
from gradkernels.tree import leaves

WAYS = ("numpy.blocked", "torch.closed")
KEYS = [f"{way}.{quantity}" for way, quantity in product(WAYS, FIVE)]
FULL = [REGRESSIONS[family](l2=0.3, weighted=True) for family in REGRESSIONS]


def variant(key, rows):
    way, _, quantity = key.rpartition(".")
    return gk.kernel(f"{way}[rows={rows}].{quantity}")


@matrix("key,problem", KEYS, FULL)
def test_blocks_join_without_a_seam(key, problem):
    for n, rows in product((1, 2, 7, 8), (1, 3, 7, 100)):
        gk.check(variant(key, rows), gk.Case(problem, key.rpartition(".")[2], n, features=3))


@pytest.mark.parametrize("problem", [*FULL, gk.LinearRegression()], ids=lambda problem: problem.name)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("features", "layout"), [(1, "C"), (3, "F"), (3, "C")])
def test_float32_blocks_of_several_groups(key, problem, features, layout):
    case = gk.Case(problem, key.rpartition(".")[2], 1_100, "float32", layout=layout, features=features)
    gk.check(variant(key, 600), case)  # 600 = 2 groups of 256, and 88 more


@pytest.mark.parametrize("features", [1, 2, 8])
@pytest.mark.parametrize("way", WAYS)
def test_float32_sums_of_a_million_nearly_equal_rows_lose_nothing(way, features):
    """One after the other they are off by 0.2 to 1.1%; pairwise addition keeps 1e-7."""
    n, rng = 10**6, np.random.default_rng(0)
    x = np.float32(0.1 + 1e-6 * rng.standard_normal((n, features) if features > 1 else n))
    theta, y = np.full(features + 1, 0.7, np.float32), np.full(n, 0.3, np.float32)
    columns = x.reshape(n, -1).astype(float)
    slope = 2 * (float(theta[0]) * (1 + columns.sum(1)) - float(y[0]))
    exact = np.r_[slope.mean(), (slope[:, None] * columns).mean(0)]
    backend = BACKENDS[way.partition(".")[0]]
    got = gk.kernel(f"{way}.gradient").build(gk.LinearRegression())(*backend.put((theta, x, y)))
    np.testing.assert_allclose(backend.get(got), exact, rtol=1e-7)


@matrix("problem,quantity", [*FULL, gk.LinearRegression()], ["gradient", "norms", "moments", "clipped_sum"])
def test_memory_beyond_inputs_and_result_stays_under_a_megabyte(problem, quantity):
    n = 300_000
    theta, x, y = problem.draw(n, seed=0, features=30)
    compute = gk.kernel(f"numpy.blocked.{quantity}").build(problem)
    into = {"out": np.empty(n)} if quantity == "norms" else {}
    tracemalloc.start()
    try:
        compute(theta, x, y, **into)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("key", KEYS)
def test_calls_at_the_same_time_do_not_meet(key):
    problem = FULL[0]
    kernel = variant(key, 64)
    compute, backend = kernel.build(problem), kernel.backend
    inputs = [backend.put(problem.draw(20_000, seed=seed, features=3)) for seed in range(4)]
    alone = [leaves(compute(*arrays)) for arrays in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda arrays: leaves(compute(*arrays)), inputs * 3))
    for got, want in zip(together, alone * 3, strict=True):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_its_penalty_cancels_has_its_own_small_norm(way):
    # eta = 2^20 and y = 1.5 2^20: slope -2^20, of which the penalty 2^20 - 2^-20 leaves -2^-20.
    problem = gk.LinearRegression(fit_intercept=False, l2=1 - 2**-40)
    theta, x, y = np.array([2.0**20]), np.array([1.0]), np.array([1.5 * 2**20])
    backend = BACKENDS[way.partition(".")[0]]
    norm = gk.kernel(f"{way}.norms").build(problem)(*backend.put((theta, x, y)))
    assert backend.get(norm).tolist() == [2**-20]


def test_torch_results_are_ordinary_in_inference_mode_and_its_own_memory_can_be_written_to():
    problem = gk.LinearRegression(l2=0.5)
    inputs = problem.draw(6, seed=0, features=2)
    for name in ("per_sample", "norms"):
        compute = gk.kernel(f"torch.closed.{name}").build(problem)
        plain = compute(*BACKENDS["torch"].put(inputs))
        with torch.inference_mode():
            arrays = BACKENDS["torch"].put(inputs)
            inside, own = compute(*arrays), torch.empty(plain.shape, dtype=torch.float64)
            assert own.is_inference()
            assert compute(*arrays, out=own) is own
        assert not inside.is_inference()
        assert torch.equal(inside, plain)
        assert torch.equal(own, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")
@pytest.mark.parametrize("problem", FULL, ids=lambda problem: problem.family)
@pytest.mark.parametrize("way", ["torch.closed", "torch.compiled"])
@pytest.mark.parametrize("quantity", FIVE)
def test_torch_ways_hold_on_a_gpu(way, quantity, problem):
    case = gk.Case(problem, quantity, 5_000, "float32", device="cuda", features=3)
    gk.check(f"{way}.{quantity}", case)
    gk.check(f"{way}.{quantity}", replace(case, dtype="float64", layout="F"))
