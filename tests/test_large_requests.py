"""Options that ask for more memory than there is, that fit into none, and numbers that half precision cannot hold."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.memory.kept_arrays import kept_on
from gradkernels.quantity import QUANTITIES

P = gk.LinearRegression()
ARRAYS = P.draw(3, seed=0)


def test_a_result_larger_than_the_memory_is_refused_with_its_bytes():
    with pytest.raises(
        ValueError, match=r"^the result with count=1,000,000,000,000,000 has 16,000,000,000,000,000 bytes"
    ):
        gk.group_sums(P, *ARRAYS, [0, 1, 1], count=10**15)
    with pytest.raises(
        ValueError, match=r"^the result with size=1,000,000,000,000,000 has 24,000,000,000,000,000 bytes"
    ):
        gk.project(P, *ARRAYS, size=10**15)
    weights = np.broadcast_to(1.0, (3, 10**13))
    (option,) = QUANTITIES["weighted_sum"].options
    with pytest.raises(
        ValueError, match=r"^the result with weights \(3, 10000000000000\) has 160,000,000,000,000 bytes"
    ):
        option.checked(weights, 3, ARRAYS[0])


def test_blocks_of_a_projection_are_not_kept_where_memory_is_limited():
    torch.manual_seed(0)
    model = nn.Linear(600, 10)
    problem, x, y = gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.randn(4, 600), torch.arange(4)
    want = gk.project(problem, None, x, y, size=1024)
    assert kept_on("cpu").nbytes
    limit = 2**26
    tracemalloc.start()
    found = gk.project(problem, None, x, y, size=1024, max_bytes=limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    torch.testing.assert_close(found, want)
    assert not kept_on("cpu").nbytes
    assert peak < limit
    with pytest.raises(ValueError, match=r"needs about 2\d,\d{3},\d{3} bytes, max_bytes=16,777,216"):
        gk.project(problem, None, x, y, size=1024, max_bytes=2**24)


@pytest.mark.parametrize("way", [None, "torch.hooks", "torch.recorded", "torch.loop+"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_weights_have_their_digits_in_half_precision(way, dtype):
    torch.manual_seed(0)
    model = nn.Linear(4, 3).to(dtype)
    problem, x, y = gk.ModuleProblem(model, nn.CrossEntropyLoss()), 100 * torch.randn(8, 4), torch.arange(8) % 3
    x = x.to(dtype)
    rows = gk.per_sample(problem, None, x, y)
    weights = torch.full((8,), 1.0e-6)
    for given in (weights, weights.numpy(), torch.stack([weights, -3 * weights], 1)):
        found = gk.weighted_sum(problem, None, x, y, given, kernel=way)["weight"]
        of = torch.as_tensor(given).double()
        want = torch.tensordot(of, rows["weight"].double(), ([0], [0]))
        scale = torch.tensordot(of.abs(), rows["weight"].double().abs(), ([0], [0]))
        assert found.dtype == dtype
        assert float(((found.double() - want).abs() / scale).max()) < 3 * torch.finfo(dtype).eps
    assert math.isfinite(float(scale.max()))


def test_flat_rows_go_into_a_memory_map(tmp_path):
    want = gk.per_sample(P, *ARRAYS, kernel="numpy.broadcast")
    mapped = np.memmap(tmp_path / "rows", np.float64, "w+", shape=(3, 2))
    assert gk.per_sample(P, *ARRAYS, flat=True, out=mapped, kernel="numpy.broadcast") is mapped
    mapped.flush()
    assert np.fromfile(tmp_path / "rows").reshape(3, 2).tolist() == want.tolist()
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.CrossEntropyLoss())
    x, y, layout = torch.randn(5, 4), torch.arange(5) % 3, gk.flat(problem)
    mapped = np.memmap(tmp_path / "more", np.float32, "w+", shape=(5, len(layout)))
    gk.per_sample(problem, None, x, y, flat=True, out=torch.from_numpy(mapped))
    rows = gk.per_sample(problem, None, x, y)
    np.testing.assert_allclose(np.fromfile(tmp_path / "more", np.float32).reshape(5, 15), layout.join(rows, 1))
    mapped[:] = 0
    gk.per_sample(problem, None, x, y, out=layout.split(torch.from_numpy(mapped)))
    np.testing.assert_allclose(np.fromfile(tmp_path / "more", np.float32).reshape(5, 15), layout.join(rows, 1))
