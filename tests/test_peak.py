"""Peak memory is what a kernel must allocate, whatever its library keeps of earlier calls."""

import subprocess
import sys

import numpy as np
import pytest

from gradkernels.bench.isolation import environment
from gradkernels.bench.timing import peak_memory as peak
from gradkernels.bench.timing.peak_memory import peak_bytes

pytestmark = pytest.mark.skipif(not peak.RESET.exists(), reason="only Linux resets the high-water mark of a process")

MEBI = 2**20
MEASURE = """
import sys
import gradkernels as gk
from gradkernels.bench.timing.peak_memory import peak_bytes

kernel = gk.kernel(sys.argv[1])
case = gk.Case(gk.LinearRegression(), "per_sample", 2**17, features=63)
arrays = [kernel.backend.put(array) for array in case.draw()]
compute = kernel.build(case.problem)
call = lambda: kernel.backend.wait(compute(*arrays))
call()
print(peak_bytes(call))
"""


@pytest.mark.parametrize(
    "key", ["numpy.broadcast.per_sample", "torch.vmap[chunk=512].per_sample", "jax.vmap.per_sample"]
)
def test_a_kernel_that_materialises_the_rows_takes_their_size(key):
    """2^17 rows of 64 float64 are 64 MiB; each kernel's temporaries are below 2% of that."""
    pytest.importorskip(key.partition(".")[0])
    variables = {**environment.child_environment(1), **environment.memory_environment()}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, key], env=variables, capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) / (64 * MEBI) == pytest.approx(1, rel=0.1)


def blocks(count, size):
    return lambda: [np.ones(size, np.uint8) for _ in range(count)]


@pytest.mark.parametrize("size", [2**12, 2**14, 2**18, 2**24])
def test_memory_that_earlier_calls_have_freed_counts_again(size):
    call = blocks(32 * MEBI // size, size)
    call()
    assert [peak_bytes(call) / MEBI for _ in range(2)] == pytest.approx([32, 32], rel=0.1)


def test_the_peak_is_the_highest_moment_and_not_the_sum():
    def call():
        for _ in range(4):
            np.ones(16 * MEBI, np.uint8)

    assert peak_bytes(call) / MEBI == pytest.approx(16, rel=0.1)


def test_what_is_freed_before_the_result_is_made_counts():
    def call():
        return np.ones(32 * MEBI, np.uint8)[:MEBI].copy()

    assert peak_bytes(call) / MEBI == pytest.approx(33, rel=0.1)


def test_where_the_system_does_not_tell_there_is_no_figure(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "RESET", tmp_path / "missing" / "clear_refs")
    assert peak_bytes(lambda: None) is None


def test_on_cuda_the_allocator_tells():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device on this machine")
    rows = torch.ones(1, device="cuda")

    def call():
        half = rows.expand(4 * MEBI).clone()
        return torch.cat([half, half])

    call()
    assert [peak_bytes(call, "cuda") / MEBI for _ in range(2)] == pytest.approx([48, 48], rel=0.1)
