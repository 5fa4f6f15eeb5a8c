"""The end of a process and of what it started: tell that it has ended, end it, and describe how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

from gradkernels.bench.isolation.errors import EXHAUSTED_FIRST, last_line, says_exhausted
from gradkernels.bench.isolation.worker_side import CLOSED, EXHAUSTED

Process = subprocess.Popen[bytes]
_KEEPS_ITS_NUMBER = hasattr(os, "waitid")  # macOS has it since Python 3.13


def ended(process: Process) -> bool:
    """Tell whether a process has ended; its number stays taken until `end`, so that no other group can have it."""
    if process.returncode is not None or not _KEEPS_ITS_NUMBER:
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end(process: Process) -> int:
    """Kill a process, if it lives, and the group that it leads; close its pipes; return its exit code."""
    if process.returncode is None or not _KEEPS_ITS_NUMBER:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return process.wait()


def describe_end(code: int, errors: bytes) -> str:
    """Describe in one line how a process ended that had not done its work.

    Args:
        code: Its exit code; negative: the signal that ended it.
        errors: The end of what it wrote to standard error.
    """
    if code in (CLOSED, EXHAUSTED):
        return "it closed the pipe that its process reports through" if code == CLOSED else "out of memory"
    how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with code {code} before its work was done"
    last = last_line(errors.decode(errors="replace"))
    memory = EXHAUSTED_FIRST if says_exhausted(last) else ""
    # A process that was killed, or left as if all were well, did not write its reason down.
    return f"{memory}the process {how}" + (f": {last}" if last and (memory or code > 0) else "")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"
