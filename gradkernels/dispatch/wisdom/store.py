"""This machine's choice: where it is kept, how it is read and saved; and the tables that are only read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from errno import EACCES
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from gradkernels.dispatch.wisdom.entry import Wisdom, described, fault_of
from gradkernels.dispatch.wisdom.learning import learn, merged_tables
from gradkernels.dispatch.wisdom.lock import held
from gradkernels.dispatch.wisdom.text import WisdomText, dumps, parsed_wisdom
from gradkernels.dispatch.wisdom.warn import pass_over
from gradkernels.record import read

ENVIRONMENT = "GRADKERNELS_WISDOM"
SHIPPED = "shipped"

_UNSAVED: list[Wisdom] = []


def saved_path() -> Path | None:
    """Return where this machine's choice is kept: $GRADKERNELS_WISDOM, else where platformdirs has a user's caches."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path)
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError:
        return None
    return user_cache_path("gradkernels") / "wisdom.json"


def save(table: Wisdom) -> Path:
    """Add `table` to this machine's choice, point by point.

    Other processes may save at the same time, and be killed. Whatever fails, what was saved before stays.

    Returns:
        The file.

    Raises:
        ValueError: An entry is not as it has to be, there is no place for the file, or it holds something else.
        OSError: It cannot be written; the message says why.
    """
    for entry in table:
        if fault := fault_of(entry):
            raise ValueError(f"{described(entry)} cannot be saved: {fault}")
    path = saved_path()
    if path is None:
        raise ValueError("saving wisdom needs platformdirs: pip install 'gradkernels[bench]'")
    taken = [*_UNSAVED]
    try:
        _merge_into(Path(os.path.realpath(path)), merged_tables(table, _together(taken)))
    except OSError as fault:
        text = f"wisdom cannot be saved, and what was saved before stays: {fault.strerror or fault}"
        raise OSError(fault.errno, text, str(path)) from None
    _UNSAVED[:] = [one for one in _UNSAVED if all(one is not other for other in taken)]  # a thread may add to them
    saved.cache_clear()
    return path


def _merge_into(path: Path, table: Wisdom) -> None:
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; have {ENVIRONMENT} name another")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES))
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path):
        known = _content(path)  # as it is now: another process may have saved since it was last read
        _replace(path, dumps(merged_tables(table, known.entries), known.unread))


def _replace(path: Path, text: str) -> None:
    """Put a whole file in the place of the old one, in one step."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # there is none yet, or it is another's
            beside.chmod(path.stat().st_mode)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def _content(path: Path) -> WisdomText:
    """Read the file; nothing if there is none, or a device that holds none, as `/dev/null`.

    Raises:
        ValueError: It is no wisdom, or that of a newer version.
        OSError: It cannot be read.
    """
    if not path.exists() or path.is_char_device():
        return WisdomText()
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; have {ENVIRONMENT} name another")
    return parsed_wisdom(path.read_bytes(), str(path))


@lru_cache(maxsize=1)
def saved() -> Wisdom:
    """Return this machine's saved choice; what cannot be read of it is passed over, with one warning."""
    path = saved_path()
    try:
        found = _content(path) if path else WisdomText()
    except (ValueError, OSError) as fault:
        pass_over("this machine's saved choice is", str(fault))
        return ()
    if found.faults:
        (entry, reason), *others = found.faults
        more = f" (and {len(others)} more)" if others else ""
        pass_over(f"{path}, {entry}{more} is", f"{reason}; it stays there until someone deletes it")
    return found.entries


def remember(table: Wisdom) -> None:
    """Keep for this process what could not be saved; the next save takes it along."""
    _UNSAVED.append(table)


def unsaved() -> Wisdom:
    """Return what this process measured and could not save."""
    return _together(_UNSAVED)


def _together(tables: Iterable[Wisdom]) -> Wisdom:
    found: Wisdom = ()
    for table in tables:
        found = merged_tables(table, found)
    return found


@lru_cache(maxsize=1)
def shipped() -> Wisdom:
    """Return the table that comes with the package, a hint measured on another machine."""
    text = (files("gradkernels") / "wisdom.json").read_text(encoding="utf-8")
    return parsed_wisdom(text, "the shipped table", SHIPPED).entries


def measured(path: str | os.PathLike[str]) -> Wisdom:
    """Make the table that a results file supports; it is read again only when the file changes."""
    state = os.stat(path)
    return _measured(os.fspath(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _measured(path: str, modified: int, size: int) -> Wisdom:
    return learn(read(path), os.path.basename(path))
