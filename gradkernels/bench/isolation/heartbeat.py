"""Whose turn it is in a child process: a page of memory that the parent can read whatever becomes of the child.

The child writes it between timed slices, never within one.
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
"""In place of a kernel: one of those that raced, but which was not seen."""

_LAYOUT = struct.Struct("@3q")


class Turn(NamedTuple):
    """Who is at work.

    Attributes:
        number: Grows with every turn, so that two turns of one kernel differ.
        case: Position of the case in the plan; -1 before the first.
        kernel: Position of the kernel's key in the plan, HARNESS or UNKNOWN.
    """

    number: int = 0
    case: int = -1
    kernel: int = HARNESS


class Heartbeat:
    """The page, on either side.

    Args:
        descriptor: Of a file of at least a page; may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._number = 0
        self.take(-1, HARNESS)

    def take(self, case: int, kernel: int) -> None:
        """From now on it is this kernel's turn."""
        self._number += 1
        _LAYOUT.pack_into(self._page, 0, self._number, case, kernel)

    def read(self) -> Turn:
        """Whose turn it is."""
        return Turn(*_LAYOUT.unpack_from(self._page))


def page() -> IO[bytes]:
    """The file that a child's turns are in."""
    return nameless(bytes(mmap.PAGESIZE))


def nameless(content: bytes) -> IO[bytes]:
    """A file without a name, which nothing can leave behind; in memory where the system can (Linux).

    Raises:
        OSError: There is no room for it.
    """
    memory = getattr(os, "memfd_create", None)
    file = os.fdopen(memory("gradkernels"), "w+b") if memory else tempfile.TemporaryFile()  # noqa: SIM115
    try:
        file.write(content)
        file.seek(0)
    except OSError as error:
        with suppress(OSError):  # it would write the rest
            file.close()
        raise OSError(error.errno, error.strerror, "a temporary file") from None
    return file
