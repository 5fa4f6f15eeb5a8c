"""Files that commands write, and modules that they find; refusals come before anything is computed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

USUAL_FORMATS = (".png", ".svg", ".pdf")
"""Of pictures; every command draws them."""


def import_from_here() -> None:
    """Let `package.module:factory` name a module of the current folder, as `python -m` does."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


def require_regular(path: Path, shown: str) -> None:
    """Raise for what a file cannot take the place of: a folder, a pipe, `/dev/null`.

    Args:
        path: Where a file is to be.
        shown: What a message calls it.
    """
    if path.is_dir():
        raise ValueError(f"{shown} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ValueError(f"{shown} is no regular file; name another")


def already_there(path: Path) -> ValueError:
    """Return what to raise for results that a run may not replace."""
    return ValueError(f"{path} is there already; go on with --resume, replace it with --force, or name another --out")


def require_writable(path: Path, keep: bool) -> Path:
    """Return `path`, once its folder is there and it can be written.

    Raises:
        ValueError: It is there already and must be kept, or it is a folder or a device.
        OSError: The folder cannot be written to.
    """
    require_regular(path, str(path))
    if path.exists() and keep:
        raise already_there(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PermissionError(f"{path} cannot be written to; name another --out")
    return path


def require_free(option: str, path: Path, force: bool) -> None:
    """Raise unless a file can be written to `path`; missing folders are not made yet.

    Args:
        option: Its name on the command line.
        path: The file.
        force: Whether it may be there already.

    Raises:
        ValueError: It is there already, or it is a folder or a device.
        OSError: Its folder cannot be written to.
    """
    require_regular(path, f"{option} {path}")
    if path.exists() and not force:
        raise ValueError(f"{option} {path} is there already; replace it with --force or name another file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # Permission bits do not tell: the superuser passes them, and the file system may be read-only.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(f"{option} {path}: cannot write to {folder} ({error.strerror}); name another file") from None


def require_output(out: Path, files: Collection[Path], force: bool, what: str) -> None:
    """Raise unless what is made of files can be written to another one.

    Args:
        out: Where it is to be.
        files: What it is made of.
        force: Whether it may be there already.
        what: What the files are for, for the message: `to import`.

    Raises:
        ValueError: It is one of the files, a folder or a device, or it is there already.
    """
    require_regular(out, f"--out {out}")
    if any(out.resolve() == path.resolve() for path in files):
        raise ValueError(f"{out} is one of the files {what}; --out must name another")
    if out.exists() and not force:
        raise ValueError(f"{out} is there already; name another file or replace it with --force")


def require_picture(plot: Path, formats: Collection[str], out: Path | None) -> None:
    """Raise unless a picture can be drawn to `plot` beside the results.

    Args:
        plot: The picture.
        formats: Suffixes of the pictures that the command draws.
        out: The results.

    Raises:
        ValueError: It has another suffix, or it is the results.
    """
    require_suffix("--plot", plot, formats)
    if out is not None and out.resolve() == plot.resolve():
        raise ValueError(f"--out and --plot are both {out}; name two files")


def require_suffix(option: str, picture: Path, formats: Collection[str]) -> None:
    """Raise for a folder, and for a name that does not say which picture is wanted.

    Args:
        option: Its name on the command line.
        picture: Where it is to be.
        formats: Suffixes of the pictures that the command draws.
    """
    require_regular(picture, f"{option} {picture}")
    if picture.suffix.lower() in formats:
        return
    others = [name for name in formats if name not in USUAL_FORMATS]
    more = f" (also {', '.join(others)})" if others else ""
    raise ValueError(f"{option} {picture}: pictures end in {', '.join(USUAL_FORMATS)}{more}; name a file that does")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears complete or not at all.

    Raises:
        OSError: There is no room, or no permission; names the file.
    """
    with _part_of(path) as part:
        part.write_bytes(content)


def write_whole_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file of text line by line, so that it appears complete or not at all; raises as `write_whole` does."""
    with _part_of(path) as part, part.open("wb") as file:
        file.writelines(line.encode(errors="replace") for line in lines)


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Yield where to write what takes the place of `path` in the end, if nothing is raised before."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.filename not in (None, str(part), str(path.parent)):  # of what is read meanwhile
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):  # its folder may be gone
            part.unlink()
