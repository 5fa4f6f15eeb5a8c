"""Peak memory is what a kernel must allocate, whatever its library keeps of earlier calls."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.bench.isolation import environment
from gradkernels.bench.run.memory_pass import MemoryPass
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.timing import peak_memory as peak
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.kernel import declare

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

    # The least of three: what other threads of the tests' process allocate meanwhile counts too.
    assert min(peak_bytes(call) for _ in range(3)) / MEBI == pytest.approx(16, rel=0.1)


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


KEPT = []


def keeps(problem):
    """Makes 32 MiB at the first call on all samples, and computes in them from then on."""
    workspace = {}

    def compute(theta, x, y):
        if len(y) > 2 and not workspace:
            workspace["room"] = np.ones(32 * MEBI, np.uint8)
        return workspace.get("room", y)

    return compute


def begins(problem):
    """Takes 32 MiB for the first call on all samples only."""
    calls = []

    def compute(theta, x, y):
        if len(y) > 2:
            calls.append(None if calls else np.ones(32 * MEBI, np.uint8).sum())
        return np.zeros(len(y))

    return compute


def builds(problem):
    room = np.ones(32 * MEBI, np.uint8)
    return lambda theta, x, y: room[: len(y)]


def loads(problem):
    """Takes 32 MiB once for ever, whatever the samples."""

    def compute(theta, x, y):
        KEPT[:] = KEPT or [np.ones(32 * MEBI, np.uint8)]
        return np.zeros(len(y))

    return compute


def refuses_few(problem):
    def compute(theta, x, y):
        if len(y) < 3:
            raise ValueError("at least three")
        return np.ones(32 * MEBI, np.uint8)

    return compute


@pytest.mark.parametrize(("build", "mebi"), [(keeps, 32), (begins, 32), (builds, 32), (loads, 0), (refuses_few, 32)])
def test_a_run_measures_what_the_first_call_takes_and_keeps_too(build, mebi):
    kernel = declare(f"numpy.{build.__name__}.norms")(build)
    case, heard, known = gk.Case(gk.LinearRegression(), "norms", 1000), [], {kernel.key: []}
    reports = SimpleNamespace(attempt=lambda kernel, do: do(), peak=lambda kernel, found: heard.append(found))
    MemoryPass(Plan("linear", ("numpy.loop+.norms",), (1000,)), known).measure(case, [kernel], reports)
    assert heard[0] / MEBI == pytest.approx(mebi, abs=2)
    ((n, seconds),) = known[kernel.key]
    assert n == 1000
    assert 0 < seconds < 1
