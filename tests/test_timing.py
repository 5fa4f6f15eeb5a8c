"""Slices, warm-up, orders, inputs and peaks: the parts of a pass."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gradkernels.bench.timing import slices as timing
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.shared_inputs import LINE_BYTES, SharedInputs
from gradkernels.bench.timing.slices import TimedCall, orders, time_interleaved, warm_up


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a call says so."""
    now = [0]
    monkeypatch.setattr(timing, "perf_counter_ns", lambda: now[0])
    return now


def taking(clock, nanoseconds):
    def call():
        clock[0] += nanoseconds

    return call


@pytest.mark.parametrize("count", [2, 3, 7])
def test_every_call_has_every_position_equally_often(count):
    source = orders(count, np.random.default_rng(0))
    square = [next(source) for _ in range(count)]
    assert all(sorted(order) == list(range(count)) for order in square)
    assert Counter((name, place) for order in square for place, name in enumerate(order)) == {
        (name, place): 1 for name in range(count) for place in range(count)
    }


def test_two_calls_alternate_as_abba_or_baab():
    source = orders(2, np.random.default_rng(1))
    pairs = [[next(source), next(source)] for _ in range(20)]
    assert all(first == second[::-1] for first, second in pairs)
    assert len({tuple(first) for first, _ in pairs}) == 2


def test_warming_up_fits_as_many_calls_as_take_100_microseconds(clock):
    timed = TimedCall("a", taking(clock, 2000))
    warm_up(timed, 1.0)
    assert (timed.iterations, timed.note) == (50, "")


def test_a_call_longer_than_a_slice_is_a_slice_of_one(clock):
    timed = TimedCall("a", taking(clock, 5_000_000))
    warm_up(timed, 1.0)
    assert timed.iterations == 1


def test_a_kernel_that_never_settles_is_said_to_be_unsteady(clock):
    times = iter(range(10**6, 10**9, 10**6))
    timed = TimedCall("a", lambda: clock.__setitem__(0, clock[0] + next(times)))
    warm_up(timed, 10.0)
    assert timed.note == "not steady within 5% after warm-up"


def test_slices_are_seconds_per_call_and_a_slow_kernel_gets_fewer_but_at_least_three(clock):
    quick, slow = TimedCall("quick", taking(clock, 1000), iterations=100), TimedCall("slow", taking(clock, 10**8))
    time_interleaved([quick, slow], 0.1, lambda: None, np.random.default_rng(0))
    assert quick.slices[0] == pytest.approx(1e-6)
    assert slow.slices == pytest.approx([0.1] * 3)
    assert len(quick.slices) >= 3


def test_whose_slice_comes_next_is_told_before_its_clock_starts(clock):
    def before(timed):
        told.append(timed.name)
        clock[0] += 10**9  # would show in the seconds of a slice

    told, timed = [], TimedCall("a", taking(clock, 100_000))
    warm_up(timed, 100.0, before)
    assert told == ["a"] * 3
    time_interleaved([timed], 100.0, lambda: None, np.random.default_rng(0), before)
    assert timed.slices == pytest.approx([1e-4] * len(timed.slices))
    assert told == ["a"] * (len(timed.slices) + 4)  # one more is what the rounds are planned by


def test_inputs_move_to_another_cache_line_stay_equal_and_cannot_be_written():
    given = (np.arange(2.0), np.arange(6.0).reshape(3, 2, order="F"), np.arange(3.0))
    shared = SharedInputs(given, ["numpy", "torch"], "cpu", np.random.default_rng(0))
    places = set()
    for _ in range(20):
        shared.renew()
        for array, original in zip(shared.arrays["numpy"], given, strict=True):
            np.testing.assert_array_equal(array, original)
            assert not array.flags.writeable
            assert array.ctypes.data % LINE_BYTES == 0
        assert shared.arrays["numpy"][1].flags.f_contiguous
        assert shared.arrays["torch"][2].data_ptr() == shared.arrays["numpy"][2].ctypes.data
        places.add(shared.arrays["numpy"][0].ctypes.data % 4096)
    assert len(places) > 5


def test_the_peak_of_a_call_is_what_it_must_allocate():
    size = 64 * 2**20
    assert peak_bytes(lambda: np.ones(size // 8)) == pytest.approx(size, rel=0.1)
