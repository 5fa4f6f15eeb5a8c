"""The heartbeat of a worker process: which kernel is at work, in a page of memory that outlives the process.

The worker writes the page between timed slices, never within one; its supervisor reads it, also after a crash.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from contextlib import suppress
from typing import IO, NamedTuple

HARNESS = -1
"""In place of a kernel: the harness itself is at work."""

UNKNOWN = -2
"""In place of a kernel: one of those that are timed together, nobody saw which."""

_LAYOUT = struct.Struct("@3q")


class Beat(NamedTuple):
    """One beat: who is at work.

    Attributes:
        number: Grows with every beat, so that two beats of one kernel differ.
        case: Position of the case in the plan; -1 before the first.
        kernel: Position of the kernel's key in the plan, HARNESS or UNKNOWN.
    """

    number: int = 0
    case: int = -1
    kernel: int = HARNESS


class Heartbeat:
    """The page of memory, seen from either side.

    Args:
        descriptor: Of a file of at least a page; may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._number = 0
        self.beat(-1, HARNESS)

    def beat(self, case: int, kernel: int) -> None:
        """Say that from now on a kernel, given by its position in the plan, is at work on a case, given likewise."""
        self._number += 1
        _LAYOUT.pack_into(self._page, 0, self._number, case, kernel)

    def last(self) -> Beat:
        """Return the last beat."""
        return Beat(*_LAYOUT.unpack_from(self._page))


def heartbeat_file() -> IO[bytes]:
    """Create the file that a heartbeat is in, without a name, so that nothing can leave it behind.

    Raises:
        OSError: There is no room for it.
    """
    memory = getattr(os, "memfd_create", None)  # Linux
    file = os.fdopen(memory("gradkernels"), "w+b") if memory else tempfile.TemporaryFile()  # noqa: SIM115
    try:
        file.write(bytes(mmap.PAGESIZE))
        file.seek(0)
    except OSError as error:
        with suppress(OSError):  # it would write the rest
            file.close()
        raise OSError(error.errno, error.strerror, "a temporary file") from None
    return file
