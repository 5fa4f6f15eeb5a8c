"""A real pseudo terminal of any width, in which a test prints in its own process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from unittest import mock

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown_on(width: int, show: Callable[[], object]) -> list[str]:
    """The lines that `show` prints to standard output on a terminal, without what colours them."""
    return [ESCAPE.sub("", line) for line in raw(width, show).splitlines()]


def raw(width: int, show: Callable[[], object]) -> str:
    """All that `show` prints to standard output on a terminal."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    read: list[bytes] = []

    def drain() -> None:
        with contextlib.suppress(OSError):  # when the other end is closed
            while part := os.read(master, 1 << 16):
                read.append(part)

    reader = threading.Thread(target=drain)
    reader.start()
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    try:
        with (
            os.fdopen(slave, "w", encoding="utf-8") as stream,
            mock.patch.object(sys, "stdout", stream),
            mock.patch.dict(os.environ, {**environment, "TERM": "xterm-256color"}, clear=True),
        ):
            show()
    finally:
        reader.join()
        os.close(master)
    return b"".join(read).decode("utf-8").replace("\r\n", "\n")
