"""The page in which a worker beats, and the watchdog that waits for the next beat."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import time

import pytest
from room import no_room_beyond

from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.heartbeat import UNKNOWN, Heartbeat, heartbeat_file
from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.isolation.watchdog import Watchdog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def heartbeat():
    with heartbeat_file() as page:
        return Heartbeat(page.fileno())


def test_a_beat_is_read_on_the_other_side_when_the_file_is_closed():
    with heartbeat_file() as page:
        mine, other = Heartbeat(page.fileno()), Heartbeat(page.fileno())
    assert mine.last() == other.last() == (1, -1, -1)
    mine.beat(3, 7)
    assert (other.last().number, other.last().case, other.last().kernel) == (2, 3, 7)
    mine.beat(3, 7)
    assert other.last() == (3, 3, 7)
    mine.beat(2**62, UNKNOWN)
    assert other.last() == (4, 2**62, -2)


@pytest.mark.parametrize("system", ["linux", "other"])
def test_the_file_of_a_heartbeat_is_a_page_of_zeros_without_a_name(monkeypatch, tmp_path, system):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if system == "other":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with heartbeat_file() as page:
        assert page.read() == bytes(mmap.PAGESIZE)
        name = os.readlink(f"/proc/self/fd/{page.fileno()}")
        assert (name == "/memfd:gradkernels (deleted)") == (system == "linux")
    assert not list(tmp_path.iterdir())


def test_without_room_for_a_heartbeat_that_is_said():
    with no_room_beyond(100), pytest.raises(OSError, match="File too large") as refusal:
        heartbeat_file()
    assert (refusal.value.errno, refusal.value.filename) == (errno.EFBIG, "a temporary file")


# The watchdog.


class Clock:
    """Stands until it is set."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


HARNESS_HUNG = "the process came no further for 5 s"
KERNEL_HUNG = "it took longer than --timeout 0.5 s"


@pytest.mark.parametrize(
    ("kernel", "patience", "told"), [(-1, 5.0, HARNESS_HUNG), (0, 0.5, KERNEL_HUNG), (UNKNOWN, 0.5, KERNEL_HUNG)]
)
def test_whoever_is_at_work_may_take_so_long_and_no_longer(heartbeat, clock, kernel, patience, told):
    watchdog = Watchdog(heartbeat, ProcessLimits(timeout=0.5, harness_seconds=5.0))
    heartbeat.beat(3, kernel)
    clock.now = 200.0
    watchdog.check()  # sees the beat, and counts from now on
    clock.now += patience
    watchdog.check()
    heartbeat.beat(3, kernel)
    watchdog.check()
    clock.now += patience
    watchdog.check()
    clock.now += 0.25
    with pytest.raises(WorkerDied) as death:
        watchdog.check()
    assert (death.value.status, death.value.reason, death.value.beat) == ("timeout", told, (3, 3, kernel))


def test_time_counts_from_the_start_and_anew_from_a_restart(heartbeat, clock):
    watchdog = Watchdog(heartbeat, ProcessLimits(timeout=0.5, harness_seconds=5.0))
    clock.now = 105.25
    watchdog.restart()
    clock.now = 110.25
    watchdog.check()
    clock.now = 110.5
    with pytest.raises(WorkerDied, match=HARNESS_HUNG):
        watchdog.check()


def test_a_restart_sees_the_last_beat(heartbeat, clock):
    watchdog = Watchdog(heartbeat, ProcessLimits(timeout=0.5))
    heartbeat.beat(3, 0)
    watchdog.restart()
    clock.now = 101.0
    with pytest.raises(WorkerDied, match=KERNEL_HUNG):
        watchdog.check()
