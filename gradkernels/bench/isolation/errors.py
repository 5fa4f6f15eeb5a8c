"""The two errors of worker processes, and faults in one line of text."""

from __future__ import annotations

from gradkernels.bench.isolation.heartbeat import Beat

MOST_CHARACTERS = 300
OUT_OF_MEMORY = (
    *("allocate memory", "out of memory", "resource_exhausted", "bad_alloc", "memoryerror"),
    *("failed to map segment", "cannot map zero-fill pages"),
)
"""What numpy, torch, JAX and C++, and the system's loader of libraries, say in lower case when no memory is left."""

EXHAUSTED_FIRST = "out of memory: "


class WorkerUnusable(Exception):
    """The process must end: no other kernel can be measured in it any more.

    Attributes:
        status: `failed` or `wrong`, for the row of whoever did it.
        reason: What was done.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WorkerDied(Exception):
    """A worker process ended or hung before its work was done, or was not fit to go on.

    Attributes:
        status: `failed`, `wrong` or `timeout`, for the row of whatever it was doing.
        reason: How it ended, in one line.
        beat: The last that its heartbeat said.
    """

    def __init__(self, status: str, reason: str, beat: Beat | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.beat = beat or Beat()


def one_line(text: str) -> str:
    """Return the first line of `text` that can be printed, cut to what fits into a row."""
    lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())
    return next(filter(None, lines), "")[:MOST_CHARACTERS]


def last_line(text: str) -> str:
    """Return the last line of `text` that can be printed, cut to what fits into a row."""
    return one_line("\n".join(reversed(text.splitlines())))


def describe_fault(fault: BaseException) -> str:
    """Return type and message of `fault` in one line, even if reading its message raises."""
    try:
        text = str(fault)
    except BaseException:  # anything can be raised by a kernel, also an exception that raises another
        text = "its message cannot be read"
    return one_line(f"{type(fault).__name__}: {text}" if text else type(fault).__name__)


def explain_fault(fault: BaseException) -> str:
    """Return type and message of `fault` in one line, after `out of memory` where it says that none is left."""
    text = describe_fault(fault)
    return EXHAUSTED_FIRST + text if isinstance(fault, MemoryError) or says_exhausted(text) else text


def failure_reason(fault: BaseException) -> str:
    """Return what a kernel raised, in one line.

    Raises:
        WorkerUnusable: It says that there is no memory left.
    """
    text = explain_fault(fault)
    if not text.startswith(EXHAUSTED_FIRST):
        return text
    # Without the traceback, whose frames hold on to the memory that was in use.
    raise WorkerUnusable("failed", text) from fault.with_traceback(None)


def says_exhausted(text: str) -> bool:
    """Tell whether `text`, of an exception or on standard error, says that there is no memory left."""
    return any(words in text.lower() for words in OUT_OF_MEMORY)
