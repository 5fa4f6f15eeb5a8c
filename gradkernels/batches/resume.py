"""Rows in a file that outlives its process: what it has of what is noted beside it, and the same call goes on there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from gradkernels.batches.loading.batch import Batch
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.loading.digests import digest
from gradkernels.batches.loading.stream import Stream
from gradkernels.batches.row_files import RowFile, remove, row_file

VERSION = 1
SAVE_SECONDS = 1.0
"""Between two notes, each of which waits for the disk: what a kill costs is computed again."""


@dataclass(frozen=True)
class Note:
    """What a file of rows has.

    Attributes:
        asked: What its rows are, by name: the quantity, the problem, fingerprints of theta and options.
        batches: How many batches it has.
        rows: How many rows.
        first: Fingerprint of the first batch.
        seen: Fingerprint of all of them, one after the other.
        version: Of the note.
    """

    asked: dict[str, str]
    batches: int = 0
    rows: int = 0
    first: str = ""
    seen: str = ""
    version: int = VERSION

    def after(self, batch: Batch) -> Note:
        """Return what is noted with one more batch."""
        return replace(
            self,
            batches=batch.number + 1,
            rows=batch.stop,
            first=self.first or batch.digest,
            seen=digest(self.seen, batch.digest),
        )


def beside(path: Path) -> Path:
    """Return where the note of a file of rows is."""
    return path.with_name(f"{path.name}.progress.json")


def rows_into_file(stream: Stream, call: BatchCall, path: str | os.PathLike[str], asked: dict[str, str]) -> Any:
    """Write each batch's rows into a file, behind those that the same call wrote before it ended.

    Args:
        stream: Of the batches.
        call: What is asked of each.
        path: Of the file.
        asked: What tells this call from others.

    Raises:
        ValueError: The file has rows of something else, or of other batches, or was made by something else.
        OSError: It cannot be written.
    """
    file = row_file(path)
    known = _known(file.path, asked)
    try:
        if known.batches:
            file.resume(known.rows)
        else:
            _save(known, file.path)
            remove(file.path)
        _write_all(stream, call, file, known)
        return file.finish()
    finally:
        file.close()


def _write_all(stream: Stream, call: BatchCall, file: RowFile, known: Note) -> None:
    note, saved = Note(known.asked), monotonic()
    try:
        for batch in stream.batches(call, known=True, skip=known.batches):
            after = note.after(batch)
            if batch.number < known.batches:
                _require_same(after, known, file.path)
            elif batch.size:
                file.write(call(batch))
            note = after
            if batch.number >= known.batches and monotonic() - saved >= SAVE_SECONDS:
                _save_both(note, file)
                saved = monotonic()
    except BaseException:
        if note.batches > known.batches:
            with suppress(OSError):  # what was noted before stays true
                _save_both(note, file)
        raise
    if note.batches < known.batches:
        raise ValueError(f"{file.path} has {known.batches:,} batches and there are {note.batches:,} now; pass the same "
                         "ones, or write to another file")  # fmt: skip
    _save_both(note, file)


def _save_both(note: Note, file: RowFile) -> None:
    file.save()
    _save(note, file.path)


def _require_same(after: Note, known: Note, path: Path) -> None:
    """Raise a ValueError where batches are not those that the file has rows of."""
    if after.first != known.first or (after.batches == known.batches and after.seen != known.seen):
        which = "the first batch is" if after.first != known.first else f"the first {known.batches:,} batches are"
        raise ValueError(f"{which} not what {path} has rows of; pass the same data in the same order (a loader that "
                         "shuffles has another one each time), or write to another file")  # fmt: skip


def _known(path: Path, asked: dict[str, str]) -> Note:
    """Return what the file has; a note of nothing where there is none."""
    try:
        found = json.loads(beside(path).read_text())
    except FileNotFoundError:
        if path.exists():
            raise ValueError(f"{path} is there, and nothing beside it says what it has; delete it, or write to another "
                             "file") from None  # fmt: skip
        return Note(asked)
    except ValueError as error:
        raise ValueError(f"{beside(path)} cannot be read: {error}; delete it and {path.name}") from None
    fields = set(asdict(Note(asked)))
    if not isinstance(found, dict) or fields != set(found) or found["version"] != VERSION:
        raise ValueError(
            f"{beside(path)} is no note of this version; delete it and {path.name}, or write to another file"
        )
    note = Note(**found)
    if different := sorted(
        name for name in asked.keys() | note.asked.keys() if asked.get(name) != note.asked.get(name)
    ):
        raise ValueError(f"{path} has rows of another call: {' and '.join(different)} {_are(different)}; call with the "
                         "same to go on, or write to another file")  # fmt: skip
    if not path.exists():
        return Note(asked)
    return note


def _are(names: list[str]) -> str:
    return "is not the same" if len(names) == 1 else "are not the same"


def _save(note: Note, path: Path) -> None:
    """Put the note in the place of the one before, in one step."""
    new = beside(path).with_suffix(".new")
    with open(new, "w") as file:
        json.dump(asdict(note), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, beside(path))
