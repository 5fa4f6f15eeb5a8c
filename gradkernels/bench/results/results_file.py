"""The results file of a run: held against other runs, appended to row by row, and never worse off than before.

The lock is the system's, on the file itself: there is no other file, and it ends with the process that holds it,
however that ends.
"""

from __future__ import annotations

import fcntl
import os
from codecs import BOM_UTF8
from contextlib import suppress
from errno import ENOENT, ENOLCK, ENOSYS, ENOTSUP
from io import FileIO
from pathlib import Path
from typing import Literal

from gradkernels import record
from gradkernels.record import HEADER, OLD_HEADERS, Record

Mode = Literal["new", "resume", "replace"]

_OLD_HEADERS = tuple(header.encode() for header in OLD_HEADERS)


class ResultsFile:
    """A results file that one run holds; a context manager.

    Args:
        path: The file; made if it is not there, and removed again on leaving if no row was written.
        mode: `new`: it must hold no row; `resume`: rows are added, to those of an older schema when they have the
            columns of now; `replace`: what it holds stays until there is a first row.

    Raises:
        ValueError: It holds rows and is to be new, another run holds it, or it is no regular file.
        OSError: It cannot be opened or written to.
    """

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path = path.resolve()
        self._shown = path
        self._made = not path.exists()
        self._file = _held(self.path, path)
        self._beside = self.path.with_name(f".{self.path.name}.new")
        self._replace = False
        try:
            self._beside.unlink(missing_ok=True)  # of a run that was killed while it made it
            self._enter(mode)
        except BaseException:
            self.close()
            raise

    def _enter(self, mode: Mode) -> None:
        content = self.path.read_bytes()
        if HEADER.encode().startswith(content) or content in _OLD_HEADERS:
            # No row, and perhaps half a header: nothing to lose.
            os.truncate(self.path, 0)
            content = b""
        elif mode == "resume":
            content = content[: mend(self.path)]
            if content.startswith(_OLD_HEADERS):
                content = self._with_current_columns()
        elif mode == "replace":
            self._replace = True
        else:
            raise ValueError(
                f"{self._shown} is there already; go on with --resume, replace it with --force, or name another --out"
            )
        self._size = len(content)

    def _with_current_columns(self) -> bytes:
        """Write the rows of a file of an older schema with the columns of now, in one step; return its content."""
        rows = record.read(self.path)
        content = "".join([HEADER, *(record.line(row.columns().values()) for row in rows)]).encode()
        self._replace_atomically(content)
        return content

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; another run may write to it."""
        with suppress(OSError, ValueError):  # its folder may be gone, or it is closed already
            if self._made and os.fstat(self._file.fileno()).st_size == 0 and _is(self._file, self.path):
                self.path.unlink()
        self._file.close()

    def read(self) -> list[Record]:
        """Read the rows that are there to go on with.

        Raises:
            ValueError: They are malformed, or have other columns than those that are written now.
        """
        if self._replace or not self._size:
            return []
        records = record.read(self.path)
        if not record.has_current_columns(self.path):
            raise ValueError(f"{self._shown} has other columns than are written now; name another --out")
        return records

    def append(self, *rows: Record) -> None:
        """Add whole lines, on the disk when this returns; without room for all of them, none of them stays.

        Raises:
            OSError: There is no room, or the file is no longer there.
        """
        # Names of files may hold bytes that are no text; a row must not be lost to them.
        data = "".join(record.line(row.columns().values()) for row in rows).encode(errors="replace")
        try:
            if self._replace:
                self._replace_atomically(HEADER.encode() + data)
            else:
                self._write(data if self._size else HEADER.encode() + data)
        except OSError as error:
            text = f"{error.strerror}; the rows before are safe, and --resume goes on"
            raise OSError(error.errno, text, str(self._shown)) from None

    def _write(self, data: bytes) -> None:
        if not _is(self._file, self.path):
            raise FileNotFoundError(ENOENT, "removed or replaced while a run was writing to it")
        try:
            _write(self._file, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += len(data)

    def _replace_atomically(self, data: bytes) -> None:
        """Put a file that has its first row in the place of the old one, in one step."""
        file = _held(self._beside, self._shown)
        try:
            os.fchmod(file.fileno(), os.fstat(self._file.fileno()).st_mode)
            _write(file, data)
            os.replace(self._beside, self.path)
        except BaseException:
            with suppress(OSError):
                self._beside.unlink()
            file.close()
            raise
        self._file.close()
        self._file, self._size, self._replace = file, len(data), False


def mend(path: Path) -> int:
    """Cut a half-written last row off a results file, as a killed run leaves it; leave any other file alone.

    Returns:
        The size of the file, in bytes.
    """
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if not text.removeprefix(BOM_UTF8).startswith(_OLD_HEADERS[0].strip()) or whole in (0, len(text)):
        return len(text)
    os.truncate(path, whole)
    return whole


def _held(path: Path, shown: Path) -> FileIO:
    """Return `path`, open for appending, and nobody else's."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{shown} is no regular file; name another --out")
    while True:
        file = FileIO(path, "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(f"another run is writing to {shown}; wait for its end, or name another --out") from None
        except OSError as error:
            if error.errno not in (ENOLCK, ENOTSUP, ENOSYS):  # a file system without locks does without
                file.close()
                raise
        if _is(file, path):
            return file
        file.close()  # whoever held it has removed or replaced it meanwhile


def _is(file: FileIO, path: Path) -> bool:
    """Return whether `path` is the file that is open."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())
