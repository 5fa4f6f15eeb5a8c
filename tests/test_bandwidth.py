"""What memory alone costs: bytes counted by hand, yardsticks that move each byte once, and who may be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from measured import STEADY, passes, record

import gradkernels as gk
from gradkernels.bench.compare.matching import pair, select
from gradkernels.bench.results.table import tabulate
from gradkernels.bench.run.ranking import rankings
from gradkernels.bench.timing import bandwidth
from gradkernels.bench.timing import memory_movers as movers
from gradkernels.bench.timing.bandwidth import COPY, FRESH, READ, WRITE, Bandwidth
from gradkernels.bench.timing.memory_movers import MemoryOperations, mover
from gradkernels.bench.timing.traffic import traffic
from gradkernels.case import Case
from gradkernels.dispatch import wisdom

LINEAR = gk.LinearRegression()


@pytest.mark.parametrize(
    ("problem", "quantity", "dtype", "read", "written"),
    [
        # n = 1000, 3 features: theta 4, x 3000, y 1000 numbers.
        (LINEAR, "gradient", "float64", 8 * 4004, 8 * 4),
        (LINEAR, "gradient", "float32", 4 * 4004, 4 * 4),
        (LINEAR, "per_sample", "float64", 8 * 4004, 8 * 4000),
        (LINEAR, "norms", "float32", 4 * 4004, 4 * 1000),
        (LINEAR, "moments", "float64", 8 * 4004, 8 * 8),
        (LINEAR, "clipped_sum", "float64", 8 * 4004, 8 * 4),
        (gk.LinearRegression(fit_intercept=False), "per_sample", "float64", 8 * 4003, 8 * 3000),
        (gk.LinearRegression(weighted=True), "gradient", "float64", 8 * 5004, 8 * 4),
        # Ten classes: theta and the rows have ten times as many numbers; class numbers are int64 in float32 too.
        (gk.SoftmaxRegression(classes=10), "per_sample", "float64", 8 * 4040, 8 * 40_000),
        (gk.SoftmaxRegression(classes=10), "norms", "float32", 4 * 3040 + 8 * 1000, 4 * 1000),
    ],
)
def test_the_least_bytes_are_the_inputs_once_and_the_result_once(problem, quantity, dtype, read, written):
    assert traffic(Case(problem, quantity, 1000, dtype, features=3)) == (read, written)


@dataclass
class Counted:
    """A view that knows how often each of its entries was read."""

    array: np.ndarray
    times: np.ndarray

    def __getitem__(self, part):
        return Counted(self.array[part], self.times[part])


def counting(sources):
    """Memory operations that count reads and writes, and the counters of the sources."""
    counters = {id(source): np.zeros(source.size, int) for source in sources}

    def view(array):
        whole = array if array.base is None else array.base
        first = (array.ctypes.data - whole.ctypes.data) // array.itemsize
        return Counted(array, counters[id(whole)][first : first + array.size])

    def read(source):
        source.times += 1

    def copy(to, source):
        to.array[:] = source.array
        to.times += 1
        source.times += 1

    def fill(to, number):
        to.array[:] = number
        to.times += 1

    return MemoryOperations(view, read, copy, fill), counters


@pytest.mark.parametrize("size", [0, 1, 3, 5, 6, 10, 11, 25])
def test_a_move_reads_every_source_once_and_writes_every_entry_once(size):
    sources = [np.arange(1.0, 4.0), np.arange(4.0, 7.0), np.arange(7.0, 12.0)]
    counted, counters = counting(sources)
    out = Counted(np.full(size, np.nan), np.zeros(size, int))
    mover(counted, sources, size)(out)
    np.testing.assert_array_equal(out.array, np.r_[np.arange(1.0, 12.0), np.zeros(25)][:size])
    assert (out.times == 1).all()
    assert all((times == 1).all() for times in counters.values())


def inputs(case):
    theta, x, y = case.draw()
    for array in (theta, x, y):
        array.flags.writeable = False
    return theta, x, y


def test_small_results_need_the_reader_only_and_count_at_its_speed():
    case = Case(LINEAR, "gradient", 10)
    yardsticks = Bandwidth(case, inputs(case)).yardsticks()
    ((name, _, least),) = yardsticks
    assert (name, least) == (READ, 2**18)
    # 16 + 160 bytes read and 16 written, at 2**18 bytes in 2 microseconds.
    assert Bandwidth(case, inputs(case)).limit("numpy.matmul.gradient", {READ: 2e-6}) == pytest.approx(
        192 / 2**18 * 2e-6
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("problem", [LINEAR, gk.SoftmaxRegression()])
def test_large_results_have_a_limit_into_given_and_into_fresh_memory(problem, dtype, threads, monkeypatch):
    monkeypatch.setattr(bandwidth, "ALLOCATOR_KEPT_BYTES", 2**18)
    case = Case(problem, "per_sample", 70_000, dtype, threads=threads)
    one = Bandwidth(case, inputs(case))
    found = {name: least for name, call, least in one.yardsticks() if call() is None or True}
    read, written = traffic(case)
    assert found == {READ: read, WRITE: written, COPY: read + written, FRESH: read + written}
    seconds = {READ: 1.0, WRITE: 2.0, COPY: 3.0, FRESH: 4.0}
    assert one.limit("numpy.broadcast.per_sample@out", seconds) == 3.0
    assert one.limit("numpy.broadcast.per_sample", seconds) == 4.0
    assert one.limit("numpy.broadcast.per_sample", {}) is None


def test_what_may_be_kept_for_the_next_call_has_the_limit_of_given_memory():
    case = Case(LINEAR, "per_sample", 70_000)
    one = Bandwidth(case, inputs(case))
    assert [name for name, _, _ in one.yardsticks()] == [READ, WRITE, COPY]
    assert one.limit("numpy.broadcast.per_sample", {COPY: 3.0, FRESH: 4.0}) == 3.0


def test_nothing_is_timed_and_no_limit_claimed_on_a_gpu():
    case = Case(LINEAR, "gradient", 10, device="cuda")
    one = Bandwidth(case, inputs(Case(LINEAR, "gradient", 10)))
    assert list(one.yardsticks()) == []
    assert one.limit("torch.closed.gradient", {}) is None


def test_the_faster_of_several_ways_is_taken(monkeypatch):
    times = {"lucky once": [3.0, 2.0, 0.1, 3.0, 3.0], "faster": [2.0, 9.0, 1.0, 2.0, 2.0]}
    left = {name: iter(values) for name, values in times.items()}
    monkeypatch.setattr(movers, "MOST_TRIES", 5)
    monkeypatch.setattr(movers, "time_slice", lambda call, _: next(left[call]))
    assert movers.fastest_call(["lucky once", "faster"]) == "faster"


YARDSTICKS = [row for name in (READ, WRITE, COPY, FRESH, "control", "canary") for row in passes(STEADY, kernel=name)]
KERNEL = passes([2 * seconds for seconds in STEADY])


def test_yardsticks_are_never_competitors():
    rows = [*YARDSTICKS, *KERNEL]
    (ranking,) = rankings(rows)
    assert [place.kernel for place in ranking.kernels] == ["numpy.loop.norms"]
    (entry,) = wisdom.learn(rows)
    assert list(entry.curves) == ["numpy.loop.norms"]


def test_yardsticks_are_never_compared():
    assert pair((tabulate(YARDSTICKS), tabulate(YARDSTICKS)), False, ("a", "b")).pairs == []
    whole = tabulate([*YARDSTICKS, *KERNEL])
    (one,) = pair((whole, whole), False, ("a", "b")).pairs
    assert one.kernel == "numpy.loop.norms"
    with pytest.raises(ValueError, match="kernel"):
        select([whole], ["bandwidth.*"])


def test_a_share_of_the_limit_is_the_median_over_passes():
    rows = [
        record(pass_=i, seconds_median=seconds, limit_seconds=limit)
        for i, (seconds, limit) in enumerate([(1e-3, 5e-4), (2e-3, 5e-4), (1e-3, 9e-4)], 1)
    ]
    (ranking,) = rankings(rows)
    place = ranking.kernels[0]
    assert (place.of_limit, place.limit_seconds) == (0.5, 5e-4)
