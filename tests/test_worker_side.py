"""A worker's side of its connection, in this very process: what it says, to whom, and when it leaves."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass

import pytest

from gradkernels.bench.isolation import environment, worker_side
from gradkernels.bench.isolation.errors import WorkerUnusable
from gradkernels.bench.isolation.fresh_process import FunctionCall, answer
from gradkernels.bench.isolation.heartbeat import Heartbeat, heartbeat_file
from gradkernels.bench.isolation.messages import encode
from gradkernels.bench.isolation.worker_side import Connection, begin


@dataclass(frozen=True)
class Said:
    text: str


class Left(BaseException):
    """In place of the end of this process."""


@pytest.fixture(autouse=True)
def leaving(monkeypatch):
    def leave(code):
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)


class Pipes:
    """Both ends of what connects a worker with its supervisor."""

    def __init__(self):
        orders, messages = os.pipe(), os.pipe()
        self.orders, self.order = os.fdopen(orders[0], "rb"), os.fdopen(orders[1], "wb", 0)
        self.messages, self.pipe = os.fdopen(messages[0], "rb", 0), os.fdopen(messages[1], "wb")
        self.page = heartbeat_file()
        self.heartbeat = Heartbeat(self.page.fileno())

    def connection(self):
        return Connection(self.orders, self.pipe, self.heartbeat)

    def said(self):
        return [json.loads(line) for line in self.messages.read(10**6).splitlines()]

    def close(self):
        for file in (self.orders, self.order, self.messages, self.pipe, self.page):
            file.close()


@pytest.fixture
def pipes():
    pipes = Pipes()
    yield pipes
    pipes.close()


def test_a_message_is_sent_at_once(pipes):
    pipes.connection().send(Said("é"))
    assert pipes.messages.read(99) == b'{"message": "Said", "text": "\\u00e9"}\n'


def test_orders_come_in_turn_and_then_there_are_none(pipes):
    connection = pipes.connection()
    pipes.order.write(b'{"message": "Said", "text": "one"}\n{"message": "Said", "text": "two"}\n')
    pipes.order.close()
    assert [connection.receive(Said) for _ in range(3)] == [Said("one"), Said("two"), None]


def test_an_order_of_another_class_is_refused(pipes):
    pipes.order.write(b'{"message": "Said", "text": "one"}\n')
    with pytest.raises(ValueError, match="no message"):
        pipes.connection().receive(FunctionCall)


def test_a_beat_says_who_is_at_work_by_default_the_harness(pipes):
    connection = pipes.connection()
    connection.beat(3, 7)
    assert pipes.heartbeat.last() == (2, 3, 7)
    connection.beat(4)
    assert pipes.heartbeat.last() == (3, 4, -1)


def test_a_forked_copy_leaves_instead_of_speaking_or_beating(pipes, monkeypatch):
    connection = pipes.connection()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for do in (lambda: connection.send(Said("no")), lambda: connection.beat(3)):
        with pytest.raises(Left) as left:
            do()
        assert left.value.args == (0,)
    assert pipes.heartbeat.last() == (1, -1, -1)


def closed(descriptor):
    os.close(descriptor)


def replaced(descriptor):
    with open(os.devnull) as other:
        os.dup2(other.fileno(), descriptor)


@pytest.mark.parametrize("spoil", [closed, replaced])
def test_a_worker_whose_pipe_is_not_the_supervisors_any_more_leaves(pipes, spoil):
    connection, kept = pipes.connection(), os.dup(pipes.pipe.fileno())
    spoil(pipes.pipe.fileno())
    for do in (lambda: connection.send(Said("no")), lambda: connection.beat(3)):
        with pytest.raises(Left) as left:
            do()
        assert left.value.args == (70,)
    os.dup2(kept, pipes.pipe.fileno())
    os.close(kept)


def test_a_worker_whose_supervisor_is_gone_leaves(pipes):
    connection = pipes.connection()
    pipes.messages.close()
    with pytest.raises(Left) as left:
        connection.send(Said("no"))
    assert left.value.args == (0,)
    with pytest.raises(BrokenPipeError):
        pipes.pipe.close()


def test_a_worker_without_memory_to_say_so_leaves(pipes, monkeypatch):
    def encode(message):
        raise MemoryError

    monkeypatch.setattr(worker_side, "encode", encode)
    with pytest.raises(Left) as left:
        pipes.connection().send(Said("no"))
    assert left.value.args == (71,)


# What a worker does from its start to its end.


@pytest.fixture
def start(pipes, monkeypatch):
    """What `begin` is given, in a process that is limited and left by nobody."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(environment, "private_input", lambda: pipes.orders)
    monkeypatch.setattr(environment, "private_output", lambda: pipes.pipe)
    monkeypatch.setattr(environment, "die_with_parent", lambda parent: seen.append(("parent", parent)))
    monkeypatch.setattr(environment, "limit_memory", lambda size: seen.append(("limit", size)))
    seen.clear()
    return {"supervisor": 7, "path": [], "heartbeat": os.dup(pipes.page.fileno()), "max_bytes": None}


seen = []


def works(connection):
    seen.append(("path", [*sys.path]))
    connection.beat(5)
    connection.send(connection.receive(Said))


def is_unusable(connection):
    raise WorkerUnusable("wrong", "it changed what is not its own")


def has_no_memory(connection):
    raise MemoryError("none left")


def fails(connection):
    raise LookupError("nothing here")


def test_a_worker_does_what_it_was_started_for_and_says_that_it_has_finished(start, pipes):
    path = [*sys.path]
    pipes.order.write(b'{"message": "Said", "text": "one"}\n')
    begin({**start, "target": f"{__name__}:works"})
    assert seen == [("parent", 7), ("path", path)]
    assert pipes.said() == [{"message": "Said", "text": "one"}, {"message": "Finished"}]
    assert pipes.heartbeat.last() == (2, 5, -1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(start["heartbeat"])


def test_a_worker_is_limited_before_it_does_anything_and_finds_what_it_is_told_to_find(start, pipes):
    pipes.order.write(b'{"message": "Said", "text": "one"}\n')
    begin({**start, "target": f"{__name__}:works", "max_bytes": 0, "path": ["/here", "/there"]})
    assert seen == [("parent", 7), ("limit", 0), ("path", ["/here", "/there"])]


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("is_unusable", "wrong", "it changed what is not its own"),
        ("has_no_memory", "failed", "out of memory: MemoryError: none left"),
    ],
)
def test_a_worker_that_is_unfit_says_so(start, pipes, target, status, reason):
    begin({**start, "target": f"{__name__}:{target}"})
    assert pipes.said() == [{"message": "Unusable", "status": status, "reason": reason}]


def test_what_else_goes_wrong_is_raised(start, pipes):
    with pytest.raises(LookupError, match="nothing here"):
        begin({**start, "target": f"{__name__}:fails"})
    pipes.pipe.close()
    assert pipes.said() == []


def test_a_function_is_called_with_what_was_ordered(pipes):
    pipes.order.write(
        b'{"message": "FunctionCall", "function": "os.path:join", "arguments": {"a": "/x"}, "libraries": []}\n'
    )
    pipes.order.close()
    answer(pipes.connection())
    assert pipes.said() == [{"message": "FunctionReturned", "value": "/x"}]


def test_libraries_are_imported_before_the_call_which_is_no_work_of_the_harness(pipes, tmp_path, monkeypatch):
    (tmp_path / "just_imported.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    order = FunctionCall("os:getpid", {}, ("just_imported",))
    pipes.order.write(encode(order))
    pipes.order.close()
    answer(pipes.connection())
    assert sys.modules.pop("just_imported").__file__ == str(tmp_path / "just_imported.py")
    assert pipes.heartbeat.last() == (2, 0, 0)


def test_nothing_is_called_without_an_order(pipes):
    pipes.order.close()
    answer(pipes.connection())
    pipes.pipe.close()
    assert pipes.said() == []
