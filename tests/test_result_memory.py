"""Memory of results is handed out again when nothing refers to it any more, never before, and never grows by itself."""

import ctypes
import gc
import os
import queue
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.memory import RESULTS, empty_numpy, empty_torch, tensors
from gradkernels.memory.results import OLD, OWN_MEMORY_BYTES, SMALLEST, ResultMemory

SHAPE = (64, 500)
BYTES = 64 * 500 * 8
MB = 10**6


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """What is there already is no garbage of these tests, and a second of a hundred tests that collect."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def memory():
    return ResultMemory()


def block(memory, size=BYTES):
    return memory.empty((size,), np.uint8)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_handed_out_again_once_its_result_is_gone(memory):
    first, second = memory.empty(SHAPE, float), memory.empty(SHAPE, float)
    where = address(first)
    assert address(second) != where
    assert memory.used_bytes == 2 * BYTES
    del first
    assert (memory.used_bytes, memory.kept_bytes) == (BYTES, BYTES)
    again = memory.empty(SHAPE, float)
    assert address(again) == where
    assert (memory.used_bytes, memory.kept_bytes) == (2 * BYTES, 0)


def test_a_result_is_an_ordinary_array(memory):
    result = memory.empty(SHAPE, np.float32)
    assert type(result) is np.ndarray
    assert (result.shape, result.dtype) == (SHAPE, np.float32)
    assert result.flags.writeable
    assert result.flags.c_contiguous


def test_small_results_are_left_to_the_allocator(memory):
    small, large = block(memory, SMALLEST - 1), block(memory, SMALLEST)
    assert memory.used_bytes == SMALLEST
    assert small.base is None
    assert large.base is not None


def test_a_result_by_itself_is_left_to_the_allocator_unless_it_is_large():
    before = RESULTS.used_bytes
    small, large = empty_numpy((OWN_MEMORY_BYTES // 8 - 1,), float), empty_numpy((OWN_MEMORY_BYTES // 8,), float)
    assert RESULTS.used_bytes == before + OWN_MEMORY_BYTES
    assert small.base is None
    assert large.base is not None


class Marked(np.ndarray):
    pass


# What is left of a result, each of which shares its memory.
KEEPERS = {
    "slice": lambda a: a[3:5],
    "slice of a slice": lambda a: a[3:][:, 2:][::2],
    "entry": lambda a: a[3:4, 2],
    "transposed": lambda a: a.T,
    "other shape": lambda a: a.reshape(-1)[7:],
    "other dtype": lambda a: a.view(np.int32),
    "other class": lambda a: a.view(Marked)[1:],
    "its base": lambda a: a.base,
    "view of its base": lambda a: a.base[8:],
    "plain view of its base": lambda a: np.asarray(a.base)[8:],
    "strided": lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (8, 8)),
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape)),
    "buffer": lambda a: memoryview(a)[2:],
    "array of a buffer": lambda a: np.frombuffer(a, float)[5:],
    "ctypes": lambda a: ctypes.c_double.from_buffer(a),
    "tensor": lambda a: torch.from_numpy(a),
    "view of a tensor": lambda a: torch.from_numpy(a)[3:, 1],
    "array of a tensor": lambda a: torch.from_numpy(a).numpy(),
    "asarray of a tensor": lambda a: np.asarray(torch.from_numpy(a)[2:]),
    "detached": lambda a: torch.from_numpy(a).requires_grad_().detach(),
    "storage": lambda a: torch.from_numpy(a).untyped_storage(),
    "tensor by dlpack": lambda a: torch.from_dlpack(a),
    "array by dlpack": lambda a: np.from_dlpack(torch.from_numpy(a)),
    "saved for backward": lambda a: torch.ones(1, dtype=float, requires_grad=True) * torch.from_numpy(a),
}


@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS)
def test_a_result_never_changes_while_anything_shares_its_memory(memory, keep):
    result = memory.empty(SHAPE, float)
    result[...] = 7
    kept = keep(result)
    numbers = np.ctypeslib.as_array((ctypes.c_double * 64 * 500).from_address(address(result)))
    del result
    for _ in range(4):
        memory.empty(SHAPE, float)[...] = -1
    others = [memory.empty(SHAPE, float) for _ in range(4)]
    for other in others:
        other[...] = -1
    assert (numbers == 7).all()
    assert memory.used_bytes == 5 * BYTES
    del kept, numbers
    gc.collect()
    assert memory.used_bytes == 4 * BYTES


def test_bfloat16_is_torchs_also_where_another_library_gives_numpy_one_of_that_name():
    import jax.numpy  # noqa: F401  which does

    assert np.dtype("bfloat16").isbuiltin == 2
    tensors._dtype_of_numpy.cache_clear()
    assert empty_torch((3, 2), torch.zeros(1, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool, torch.int64]
)
@pytest.mark.parametrize("inference", [False, True])
def test_a_tensor_of_any_dtype_is_handed_out_once(dtype, inference):
    like = torch.zeros(1, dtype=dtype)
    gk.release()
    before = RESULTS.used_bytes
    with torch.inference_mode(inference):
        one, other = (empty_torch((100, 1000), like) for _ in range(2))
    assert (one.dtype, one.shape) == (dtype, (100, 1000))
    assert one.is_contiguous()
    assert not one.is_inference()
    one.fill_(1)
    other.zero_()
    assert bool((one == 1).all())
    where, view = one.data_ptr(), one.view(-1)[5:]
    del one
    assert empty_torch((100, 1000), like).data_ptr() != where
    del view
    assert empty_torch((100, 1000), like).data_ptr() == where
    assert RESULTS.used_bytes == before + 100_000 * dtype.itemsize


def test_hardly_more_is_kept_than_was_in_use_at_once(memory):
    results = [block(memory, 100_000 + 10_000 * i) for i in range(10)]
    most = memory.used_bytes
    del results
    assert (memory.used_bytes, memory.kept_bytes) == (0, most)
    for size in (200_000, 90_000, 1_000_000, 300_000, 70_000, 3_000_000):
        kept = block(memory, size)
        assert memory.used_bytes + memory.kept_bytes <= max(most, size) * 1.125
    del kept
    larger = block(memory, 10 * most)
    assert memory.used_bytes == 10 * most
    assert memory.kept_bytes <= 10 * most * 0.125
    del larger


def test_a_small_result_does_not_cost_a_large_block(memory):
    large = address(block(memory, 10 * MB))
    small = address(block(memory, MB))
    for _ in range(3):
        assert address(block(memory, 10 * MB)) == large
        assert address(block(memory, MB)) == small


def test_batches_of_other_sizes_use_the_same_memory(memory):
    sizes = np.random.default_rng(0).integers(900, 1100, 300) * 1000
    block(memory, 1_100_000)
    where = {address(block(memory, int(size))) for size in sizes}
    assert len(where) == 1
    assert memory.kept_bytes == 1_100_000
    much_smaller = block(memory, 500_000)
    assert memory.used_bytes == much_smaller.nbytes


def test_what_no_result_needs_for_long_is_given_back(memory):
    block(memory, 10 * MB)
    for _ in range(2 * OLD):
        block(memory)
    assert memory.kept_bytes == BYTES
    results = [block(memory, size) for size in (5 * MB, BYTES)]
    del results
    block(memory, MB)
    assert memory.kept_bytes <= (5 * MB + BYTES) * 1.125


def test_free_blocks_take_no_more_than_their_share():
    memory = ResultMemory(most_kept=3 * BYTES)
    results = [block(memory) for _ in range(10)]
    assert memory.used_bytes == 10 * BYTES
    del results
    assert (memory.used_bytes, memory.kept_bytes) == (0, 3 * BYTES)


def test_release_gives_back_what_is_free_and_nothing_else():
    gk.release()
    one, other = (RESULTS.empty(SHAPE, float) for _ in range(2))
    other[...] = 3
    del one
    assert gk.release() == BYTES
    assert RESULTS.kept_bytes == 0
    assert gk.release() == 0
    RESULTS.empty(SHAPE, float)[...] = 4
    assert (other == 3).all()


PRESSURE = """
import resource
from pathlib import Path
import numpy as np
from gradkernels.memory.results import ResultMemory

def now():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[0])

memory, MB = ResultMemory(), 2**20
results = [memory.empty((200 * MB,), "u1") for _ in range(2)]
del results
one = memory.empty((90 * MB,), "u1")
assert memory.kept_bytes == 200 * MB
resource.setrlimit(resource.RLIMIT_AS, (now() + 50 * MB,) * 2)
try:
    np.empty(100 * MB, "u1")
except MemoryError:
    print("no memory left")
other = memory.empty((90 * MB,), "u1")
print(memory.used_bytes // MB, memory.kept_bytes)
try:
    memory.empty((300 * MB,), "u1")
except MemoryError:
    print("and now there is none")
print(memory.empty((10 * MB,), "u1").nbytes // MB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_free_blocks_go_where_there_is_no_memory_otherwise():
    assert output_of(PRESSURE) == "no memory left\n180 0\nand now there is none\n10\n"


class Hungry(torch.nn.Module):
    """Has no memory for its work while as much is kept for results."""

    def __init__(self, error):
        super().__init__()
        self.linear, self.error = torch.nn.Linear(4, 3), error

    def forward(self, x):
        if RESULTS.kept_bytes >= MB:
            raise self.error
        return self.linear(x)


def torchs_error():
    with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize("error", [MemoryError, torchs_error, lambda: ValueError("no")])
@pytest.mark.parametrize("forced", [None, "torch.hooks"])
def test_a_model_without_memory_gets_what_is_kept_for_results(error, forced):
    problem = gk.ModuleProblem(Hungry(error()), torch.nn.CrossEntropyLoss(), mixing="own")
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    gk.release()
    with gk.audit("off"):
        expected = gk.norms(problem, None, x, y, kernel=forced)
        for _ in range(2):
            RESULTS.empty((2 * MB,), np.uint8)
            if isinstance(problem.model.error, ValueError):
                with pytest.raises(ValueError, match="no"):
                    gk.norms(problem, None, x, y, kernel=forced)
            else:
                torch.testing.assert_close(gk.norms(problem, None, x, y, kernel=forced), expected)
                assert RESULTS.kept_bytes < MB
    gk.release()


def output_of(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_threads_never_hold_the_same_memory(memory):
    """Each writes its own number and finds it again; results end in other threads than they began in."""
    ended, faults = queue.SimpleQueue(), []

    def work(number):
        for _ in range(150):
            results = [memory.empty(SHAPE, float) for _ in range(3)]
            for i, result in enumerate(results):
                result[...] = number + i / 8
            if any((result != number + i / 8).any() for i, result in enumerate(results)):
                faults.append(number)
            ended.put(results.pop())
            if ended.qsize() > 3:
                ended.get()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    while not ended.empty():
        ended.get()
    block(memory)  # collects what ended while another thread was at it
    assert faults == []
    assert memory.used_bytes == 0


class Circle:
    """Garbage that is only found by the collector, at any allocation, and computes something at its end."""

    def __init__(self, memory, ends):
        self.memory, self.ends, self.me = memory, ends, self
        self.result = memory.empty(SHAPE, float)

    def __del__(self):
        self.memory.empty(SHAPE, float)[...] = 1
        self.ends.append(1)


def test_results_that_end_in_the_midst_of_asking_for_memory_do_no_harm(memory):
    ends = []
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(300):
            Circle(memory, ends)
            result = memory.empty(SHAPE, float)
            result[...] = 2
            block(memory)[...] = 0
            assert (result == 2).all()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(ends) == 300
    del result
    block(memory)
    assert memory.used_bytes == 0


FORKS = """
import os
import numpy as np
from gradkernels.memory import RESULTS

kept, left = RESULTS.empty((1000, 1000), float), RESULTS.empty((1000, 1000), float)
kept[...] = 1
del left
assert RESULTS.kept_bytes == 8_000_000
RESULTS._lock.acquire()  # as another thread might have at this moment
child = os.fork()
if not child:
    assert RESULTS.kept_bytes == 0
    RESULTS.empty((1000, 1000), float)[...] = 2
    assert (kept == 1).all() and RESULTS.kept_bytes == 8_000_000
    del kept
    again = RESULTS.empty((1000, 1000), float)
    again[...] = 3
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
RESULTS._lock.release()
RESULTS.empty((1000, 1000), float)[...] = 4
print(kept.sum(), RESULTS.kept_bytes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_parent_and_child_have_memory_of_their_own():
    assert output_of(FORKS) == "1000000.0 8000000\n"


EXIT = """
import atexit, builtins, sys, threading, time
import numpy as np, torch
import gradkernels as gk
from gradkernels.memory import RESULTS

def made():
    return RESULTS.empty((100, 1000), float)

class Last:
    def __init__(self): self.me, self.result = self, made()
    def __del__(self): self.result[...] = 1; made()

kept, view, tensor, circle = made(), made()[3:], torch.from_numpy(made()), Last()
builtins.kept, sys.kept, np.kept, gk.kept = made(), Last(), made(), torch.from_numpy(made())[1:]
atexit.register(lambda result: made(), made())

def go_on():
    while True:
        made()[...] = 1
        time.sleep(0.0001)

threading.Thread(target=go_on, daemon=True).start()
"""


def test_results_that_outlive_everything_end_without_a_word():
    assert output_of(EXIT) == ""


def regression():
    problem = gk.LinearRegression()
    return problem, problem.draw(60_000, seed=0, features=10)


@pytest.mark.parametrize("way", ["numpy.broadcast", "numpy.blocked", "numba.fused"])
def test_rows_of_a_regression_do_not_change_after_the_next_call(way):
    problem, (theta, x, y) = regression()
    expected = [gk.per_sample(problem, theta * i, x, y, out=np.empty((60_000, 11)), kernel=way) for i in range(4)]
    rows = [gk.per_sample(problem, theta * i, x, y, kernel=way) for i in range(3)]
    part = rows.pop(1)[100:]
    assert RESULTS.used_bytes >= 3 * 60_000 * 11 * 8
    last = gk.per_sample(problem, theta * 3, x, y, kernel=way)
    for found, wanted in zip((rows[0], part, rows[1], last), expected, strict=True):
        assert np.array_equal(found, wanted[-len(found) :])


@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap", "torch.loop"])
def test_rows_of_a_module_do_not_change_after_the_next_call(way):
    problem = zoo.mlp()
    x, y = problem.example
    first = gk.per_sample(problem, None, x, y, kernel=way)
    wanted = {name: rows.clone() for name, rows in first.items()}
    parts = {name: rows[3:].numpy() for name, rows in first.items()}
    del first
    for _ in range(2):
        gk.per_sample(problem, None, x + 1, y, kernel=way)
    assert max(rows.nbytes for rows in parts.values()) > SMALLEST
    for name, rows in parts.items():
        assert np.array_equal(rows, wanted[name][3:].numpy())


def test_a_loop_of_steps_does_not_grow():
    problem = zoo.mlp()
    x, y = problem.example
    generator = torch.Generator().manual_seed(0)
    gk.release()
    kept = []
    for step in range(60):
        n = int(torch.randint(24, 33, (1,), generator=generator))
        rows = gk.per_sample(problem, None, x[:n], y[:n], kernel="torch.hooks")
        del rows
        if step >= 20:
            kept.append(RESULTS.kept_bytes + RESULTS.used_bytes)
    one = sum(32 * p.numel() * p.element_size() for p in problem.model.parameters())
    assert max(kept) == min(kept)
    assert 0 < max(kept) <= 1.25 * one
    gk.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
def test_memory_that_is_kept_counts_as_memory_that_a_call_takes():
    def call():
        result = empty_numpy((10**7,), float)
        result[...] = 1
        return result

    call()
    assert RESULTS.kept_bytes >= 80 * MB
    assert peak_bytes(call) == pytest.approx(80 * MB, rel=0.05)
