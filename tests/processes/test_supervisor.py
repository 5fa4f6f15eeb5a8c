"""The supervisor of worker processes, with workers that do right and wrong: what it hears, waits for and ends."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import psutil
import pytest

import gradkernels
from gradkernels.bench.isolation.environment import child_environment
from gradkernels.bench.isolation.errors import WorkerDied, WorkerUnusable
from gradkernels.bench.isolation.fresh_process import call_in_fresh_process
from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.isolation.messages import Finished
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.supervisor import Supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@dataclass(frozen=True)
class Order:
    what: str
    text: str = ""


@dataclass(frozen=True)
class Answer:
    value: str


# What follows runs in workers.


def worker(connection):
    """Answers orders until there are no more."""
    while order := connection.receive(Order):
        globals()[f"do_{order.what}"](connection, order.text)


def do_echo(connection, text):
    connection.send(Answer(text))


def do_beat(connection, text):
    connection.beat(*map(int, text.split()))


def do_say_and_die(connection, text):
    connection.send(Answer(text))
    print("ValueError: enough", file=sys.stderr)
    os._exit(4)


def do_close_and_exit(connection, text):
    for descriptor in (1, 2, *range(3, 64)):
        try:
            os.close(descriptor)
        except OSError:
            continue
    time.sleep(float(text))
    os._exit(4)


def do_close_errors(connection, text):
    os.closerange(1, 3)
    time.sleep(0.3)
    connection.send(Answer("still here"))


def do_flood(connection, text):
    os.write(2, b"x" * 10**6)
    connection.send(Answer("through"))


def do_spoil(connection, text):
    raise WorkerUnusable("wrong", "it changed what is not its own")


def do_exhaust(connection, text):
    raise MemoryError("none left")


def do_forge(connection, text):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, text.encode() + b"\n")
        except OSError:
            continue


def do_read(connection, text):
    connection.send(Answer(repr(os.read(0, 1))))


def do_fork(connection, text):
    connection.send(Answer(str(os.fork() or time.sleep(3600))))


def greet(name, times=1):
    return {"text": f"hello {name}" * times, "threads": os.environ["OMP_NUM_THREADS"], "process": os.getpid()}


def take(size):
    return len(bytearray(size))


def fail():
    raise LookupError("nothing here")


# What follows runs in the test.

FORGED = "it wrote into the pipe that its process reports through"


def program(**limits):
    return Program("test_supervisor:worker", child_environment(1), ProcessLimits(**limits))


@pytest.fixture
def supervisor():
    with Supervisor() as supervisor:
        yield supervisor


def test_workers_answer_in_turn_and_are_ended_on_leaving():
    before = set(psutil.Process().children())
    with Supervisor() as supervisor:
        first, second = supervisor.start(program()), supervisor.start(program())
        for text in ("one", "two"):
            first.send(Order("echo", text))
            second.send(Order("echo", text * 2))
            assert second.receive(Answer) == Answer(text * 2)
            assert first.receive(Answer) == Answer(text)
        children = set(psutil.Process().children()) - before
    assert len(children) >= 2
    assert not any(child.is_running() for child in children)


def test_an_order_larger_than_a_pipe_arrives_whole(supervisor):
    worker = supervisor.start(program())
    text = "long " * 10**5
    worker.send(Order("echo", text))
    assert worker.receive(Answer).value == text


@pytest.fixture
def waits(supervisor, monkeypatch):
    """How long the supervisor was ready to wait for its workers, each time."""
    found, select = [], supervisor._selector.select
    monkeypatch.setattr(supervisor._selector, "select", lambda seconds: (found.append(seconds), select(seconds))[1])
    return found


def test_a_supervisor_sleeps_while_a_worker_is_at_work_and_not_long_when_it_is_about_to_end(supervisor, waits):
    worker = supervisor.start(program())
    worker.send(Order("close_and_exit", "0.5"))
    waits.clear()
    with pytest.raises(WorkerDied):
        worker.receive(Answer)
    assert [*dict.fromkeys(waits)] == [0.25, 0.01, 0]


def test_sending_waits_for_nobody(supervisor, waits):
    worker = supervisor.start(program())
    for _ in range(3):
        worker.send(Order("echo", "long " * 10**5))
    assert waits == [0, 0, 0]


def test_what_one_worker_prints_does_not_stop_it_while_another_is_awaited(supervisor):
    loud, other = supervisor.start(program(harness_seconds=20)), supervisor.start(program())
    loud.send(Order("flood"))
    time.sleep(0.5)
    other.send(Order("echo", "a"))
    assert other.receive(Answer).value == "a"
    assert loud.receive(Answer).value == "through"


@pytest.fixture
def reads(monkeypatch):
    """The file descriptors that were read from."""
    found, read = [], os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: (found.append(descriptor), read(descriptor, size))[1])
    return found


def test_a_pipe_that_a_worker_has_closed_is_not_read_again(supervisor, reads):
    """Else its supervisor would compute while others are measured."""
    worker = supervisor.start(program())
    reads.clear()
    worker.send(Order("close_errors"))
    assert worker.receive(Answer).value == "still here"
    assert len(reads) == len(set(reads)) == 2


def test_what_a_worker_still_sent_is_heard_before_its_end(supervisor):
    worker = supervisor.start(program())
    worker.send(Order("say_and_die", "last"))
    assert worker.receive(Answer).value == "last"
    told = "the process ended with code 4 before its work was done: ValueError: enough"
    for _ in range(2):  # and it stays dead
        with pytest.raises(WorkerDied) as death:
            worker.receive(Answer)
        assert (death.value.status, death.value.reason) == ("failed", told)
    worker.send(Order("echo"))


@pytest.mark.parametrize(
    ("seconds", "status", "reason"),
    [
        (0.05, "failed", "the process ended with code 4 before its work was done"),
        (3600, "timeout", "the process came no further for 2 s"),
    ],
)
def test_one_that_closes_its_pipes_says_how_it_ends_itself_unless_it_hangs(supervisor, reads, seconds, status, reason):
    worker = supervisor.start(program(harness_seconds=2))
    reads.clear()
    worker.send(Order("close_and_exit", str(seconds)))
    with pytest.raises(WorkerDied) as death:
        worker.receive(Answer)
    assert (death.value.status, death.value.reason) == (status, reason)
    assert len(reads) == len(set(reads)) == 2


@pytest.mark.parametrize(
    ("kernel", "told"), [(0, "it took longer than --timeout 0.05 s"), (-1, "the process came no further for 3 s")]
)
def test_a_hang_is_told_of_who_was_waited_for(supervisor, kernel, told):
    worker = supervisor.start(program(timeout=0.05, harness_seconds=3))
    worker.send(Order("beat", f"3 {kernel}"))
    started = time.monotonic()
    with pytest.raises(WorkerDied) as death:
        worker.receive(Answer)
    assert (death.value.status, death.value.reason) == ("timeout", told)
    assert (death.value.beat.case, death.value.beat.kernel) == (3, kernel)
    assert time.monotonic() - started < 20
    assert worker.end() == -9


def test_a_worker_that_is_unfit_says_so_and_is_ended(supervisor):
    for what, status, reason in (
        ("spoil", "wrong", "it changed what is not its own"),
        ("exhaust", "failed", "out of memory: MemoryError: none left"),
    ):
        worker = supervisor.start(program())
        worker.send(Order("beat", "3 7"))
        worker.send(Order(what))
        with pytest.raises(WorkerDied) as death:
            worker.receive(Answer)
        assert (death.value.status, death.value.reason) == (status, reason)
        assert death.value.beat == (2, 3, 7)


@pytest.mark.parametrize("line", ["no JSON", '{"message": "Unknown"}', '{"message": "Answer", "value": 1}', "[]", ""])
def test_what_a_kernel_writes_into_the_pipe_ends_the_worker(supervisor, line):
    worker = supervisor.start(program())
    worker.send(Order("forge", line))
    with pytest.raises(WorkerDied) as death:
        worker.receive(Answer)
    assert (death.value.status, death.value.reason) == ("failed", FORGED)


def test_who_finds_a_message_impossible_says_why(supervisor):
    worker = supervisor.start(program())
    for fault, reason in (
        (None, FORGED),
        (ValueError("there is no case 9"), f"{FORGED}: ValueError: there is no case 9"),
    ):
        death = worker.forged(fault)
        assert (death.status, death.reason) == ("failed", reason)
    assert worker.end() == -9


def test_no_kernel_reads_orders(supervisor):
    worker = supervisor.start(program())
    worker.send(Order("read"))
    worker.send(Order("echo", "next"))
    assert [worker.receive(Answer).value for _ in range(2)] == ["b''", "next"]


def test_what_a_worker_forked_ends_with_it():
    with Supervisor() as supervisor:
        worker = supervisor.start(program())
        worker.send(Order("fork"))
        forked = psutil.Process(int(worker.receive(Answer).value))
    until = time.monotonic() + 20
    while forked.is_running() and forked.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_worker_that_is_through_says_that_it_has_finished(supervisor):
    worker = supervisor.start(Program("test_supervisor:nothing", child_environment(1)))
    assert worker.receive(Finished) == Finished()


def nothing(connection):
    """Has nothing to do."""


WHERE = """
import importlib.util, os
from dataclasses import dataclass
import gradkernels

@dataclass(frozen=True)
class Answer:
    value: str

def where(connection):
    found = importlib.util.find_spec("test_supervisor") is not None
    connection.send(Answer(f"{gradkernels.__file__} {os.getcwd()} {found}"))
"""


@pytest.mark.parametrize("as_caller", [True, False])
def test_a_worker_imports_what_its_caller_does_or_what_its_environment_says(supervisor, tmp_path, as_caller):
    folder = tmp_path / "gradkernels"  # of another checkout
    (folder / "gradkernels").mkdir(parents=True)
    (folder / "gradkernels" / "__init__.py").touch()
    (folder / "where.py").write_text(WHERE)
    environment = {**child_environment(1), "PYTHONPATH": str(folder)}
    worker = supervisor.start(Program("where:where", environment, as_caller=as_caller, folder=folder))
    package = gradkernels.__file__ if as_caller else folder / "gradkernels" / "__init__.py"
    assert worker.receive(Answer).value == f"{package} {folder} {as_caller}"


# One function in a fresh process.


def test_a_function_is_called_in_a_fresh_process_and_its_value_comes_back():
    found = call_in_fresh_process("test_supervisor:greet", {"name": "you", "times": 2}, threads=2)
    assert found.pop("process") != os.getpid()
    assert found == {"text": "hello youhello you", "threads": "2"}
    assert call_in_fresh_process("test_supervisor:greet", {"name": "you"})["threads"] == "1"


def test_how_a_function_failed_is_said():
    with pytest.raises(WorkerDied, match="code 1 before its work was done: LookupError: nothing here"):
        call_in_fresh_process("test_supervisor:fail")
    with pytest.raises(WorkerDied, match="took longer than --timeout 2 s"):
        call_in_fresh_process("test_supervisor:hang", limits=ProcessLimits(timeout=2))


def test_what_is_imported_before_the_call_is_no_part_of_its_time(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    limits = ProcessLimits(timeout=1.5)
    assert call_in_fresh_process("test_supervisor:loaded", limits=limits, libraries=["slow_to_import"])


def loaded():
    return "slow_to_import" in sys.modules


def hang():
    time.sleep(3600)


def test_a_function_gets_no_more_memory_than_it_may_have():
    limits = ProcessLimits(max_bytes=10**9)
    assert call_in_fresh_process("test_supervisor:take", {"size": 10**6}, limits=limits) == 10**6
    with pytest.raises(WorkerDied, match="out of memory: MemoryError"):
        call_in_fresh_process("test_supervisor:take", {"size": 10**9}, limits=limits)
