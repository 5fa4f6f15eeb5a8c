"""Processes and their ends: what is told of them, what is killed and when, what may stop them and what must wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from gradkernels.bench.isolation.errors import WorkerDied, WorkerUnusable, failure_reason
from gradkernels.bench.isolation.limits import most_bytes, size_in_bytes
from gradkernels.bench.isolation.process import describe_end, end, ended
from gradkernels.bench.isolation.signals import Stopped, signals_deferred, stop_on_signals
from gradkernels.memory import installed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def started(code):
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def state(process):
    """`Z` of one that has ended and was not waited for; empty when its number is free."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def until(true):
    late = time.monotonic() + 20
    while not true():
        assert time.monotonic() < late
        time.sleep(0.01)


def test_a_group_is_killed_while_its_number_is_taken(monkeypatch):
    """Else the number could be a stranger's by then."""
    states, kill = [], os.killpg
    monkeypatch.setattr(os, "killpg", lambda group, number: (states.append(state(group)), kill(group, number)))
    process = started(
        "import os, time\nif os.fork():\n    os._exit(3)\nprint(os.getpid(), flush=True)\ntime.sleep(3600)"
    )
    left = int(process.stdout.readline())
    until(lambda: ended(process))
    assert end(process) == 3
    assert states == ["Z"]
    until(lambda: state(left) in ("", "Z"))
    assert ended(process)
    assert end(process) == 3
    assert states == ["Z"]


def test_a_process_that_lives_has_not_ended():
    process = started("import time; time.sleep(3600)")
    assert not ended(process)
    assert end(process) == -9


@pytest.mark.parametrize("refusal", [ProcessLookupError, PermissionError])
def test_a_group_that_is_gone_or_refuses_a_signal_as_on_macos_is_no_error(monkeypatch, refusal):
    def kill(group, number):
        raise refusal

    monkeypatch.setattr(os, "killpg", kill)
    assert end(started("raise SystemExit(3)")) == 3


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (0, b"", "the process ended with code 0 before its work was done"),
        (0, b"bye\n", "the process ended with code 0 before its work was done"),
        (1, b" \n\n", "the process ended with code 1 before its work was done"),
        (1, b"a\nValueError: no\n\n", "the process ended with code 1 before its work was done: ValueError: no"),
        (1, b"No: \x1b[31m\xff", "the process ended with code 1 before its work was done: No:  [31m\ufffd"),
        (-11, b"a\n", "the process was ended by SIGSEGV"),
        (-35, b"", "the process was ended by signal 35"),
        (
            -6,
            b"terminate: std::bad_alloc",
            "out of memory: the process was ended by SIGABRT: terminate: std::bad_alloc",
        ),
        (
            1,
            b"ImportError: libtorch_cpu.so: cannot map zero-fill pages\n",
            "out of memory: the process ended with code 1 before its work was done: "
            "ImportError: libtorch_cpu.so: cannot map zero-fill pages",
        ),
        (70, b"", "it closed the pipe that its process reports through"),
        (71, b"", "out of memory"),
    ],
)
def test_how_a_process_ended_is_said_in_one_line(code, said, told):
    assert describe_end(code, said) == told


class Unspeakable(Exception):
    def __str__(self):
        raise KeyboardInterrupt


class Full(MemoryError):
    """Its name and its message do not say that memory is what it is about."""


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError(), "ValueError"),
        (Unspeakable(), "Unspeakable: its message cannot be read"),
        (ValueError("x" * 400), "ValueError: " + "x" * 288),
    ],
)
def test_a_fault_is_its_type_and_its_message(fault, told):
    assert failure_reason(fault) == told


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (MemoryError(), "out of memory: MemoryError"),
        (Full("no"), "out of memory: Full: no"),
        (RuntimeError("Unable to Allocate Memory"), "out of memory: RuntimeError: Unable to Allocate Memory"),
    ],
)
def test_without_memory_nothing_more_can_be_done(fault, told):
    with suppress(type(fault)):
        raise fault
    with pytest.raises(WorkerUnusable) as unusable:
        failure_reason(fault)
    assert (unusable.value.status, unusable.value.reason, str(unusable.value)) == ("failed", told, told)
    assert unusable.value.__cause__ is fault
    assert fault.__traceback__ is None


def test_a_worker_that_died_says_how_and_by_default_that_nobody_was_at_work():
    death = WorkerDied("timeout", "it hung")
    assert (str(death), death.beat) == ("it hung", (0, -1, -1))


@pytest.fixture
def interruptible():
    """SIGINT as in a terminal; where tests run in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_must_be_whole_is_finished_before_a_run_stops(interruptible):
    done = []

    def write():
        with signals_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("a row")
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("its record")
        done.append("the next row")

    with stop_on_signals(), pytest.raises(Stopped) as stop:
        write()
    assert done == ["a row", "its record"]
    assert stop.value.code == 130
    assert stop.value.args == (signal.SIGINT,)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_what_must_be_whole_is_told(interruptible):

    def write():
        with signals_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError("no room")

    with stop_on_signals(), pytest.raises(OSError, match="no room"):
        write()


HARD_LIMIT = """
import os, resource
from gradkernels.bench.isolation.environment import limit_memory
limit_memory(2**41)
print(*resource.getrlimit(resource.RLIMIT_DATA))
resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**30))
if os.geteuid() == 0:
    os.setuid(65534)
limit_memory(2**40)
print(*resource.getrlimit(resource.RLIMIT_DATA))
limit_memory(2**28)
print(*resource.getrlimit(resource.RLIMIT_DATA))
"""


def test_memory_is_limited_where_the_system_allows_less_than_was_asked_for():
    done = subprocess.run([sys.executable, "-c", HARD_LIMIT], capture_output=True, text=True)
    assert done.stdout == f"{2**41} {2**41}\n{2**30} {2**30}\n{2**28} {2**28}\n", done.stderr


@pytest.mark.parametrize(
    ("told", "expected"), [("1000000\n", 800_000), ("max\n", None), ("9223372036854771712\n", None), (None, None)]
)
def test_a_container_has_four_fifths_of_what_it_was_given(tmp_path, monkeypatch, told, expected):
    file = tmp_path / "memory.max"
    if told is not None:
        file.write_text(told)
    monkeypatch.setattr(installed, "CONTAINER", (tmp_path / "none", file))
    with open("/proc/meminfo") as meminfo:
        machine = 1024 * int(meminfo.readline().split()[1])
    assert most_bytes() == (expected or pytest.approx(machine * 0.8, rel=1e-3))
    assert isinstance(most_bytes(), int)


def test_where_the_system_does_not_say_what_memory_there_is_there_is_no_limit(monkeypatch):
    monkeypatch.setattr(os, "sysconf_names", {"SC_PAGE_SIZE": 30})
    assert most_bytes() is None
    monkeypatch.delattr(os, "sysconf_names")
    assert most_bytes() is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (" 12B ", 12),
        ("4GB", 4_000_000_000),
        ("1.5 kb", 1500),
        ("1.5KiB", 1536),
        ("512MiB", 536_870_912),
        ("2.5e3", 2500),
        ("1e1 TB", 10_000_000_000_000),
        ("9223372036854774784", 2**63 - 1024),
    ],
)
def test_a_size_is_a_number_with_a_unit(text, size):
    found = size_in_bytes(text)
    assert (found, type(found)) == (size, int)


@pytest.mark.parametrize("text", ["", "GB", "4 GBs", "4XB", "4 G B", "-1", ".5GB", "1,5GB", "\u0664GB", "4GB more"])
def test_what_is_no_size_is_refused_with_the_units(text):
    with pytest.raises(ValueError, match="--max-bytes") as refusal:
        size_in_bytes(text)
    units = "B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
    assert str(refusal.value) == f"--max-bytes {text!r}: write bytes, or a number with {units}"


@pytest.mark.parametrize("text", ["0", "0.5", "8388608TiB", "9223372036854775808"])
def test_a_size_that_no_process_can_have_is_refused(text):
    with pytest.raises(ValueError, match="--room") as refusal:
        size_in_bytes(text, "--room")
    assert str(refusal.value) == f"--room {text!r}: it must be at least 1 byte and less than 8 EiB"
