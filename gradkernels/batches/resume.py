"""Rows in a file that outlives its process: what it has of what is noted beside it, and the same call goes on there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from gradkernels.batches.asking import identity_of_call
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.loading.stream import Stream
from gradkernels.batches.notes import Note, note_of, require_all_batches, require_same_batches
from gradkernels.batches.row_files import NpyRows, RowFile, naming_the_way_on
from gradkernels.batches.saving import BackgroundSaves
from gradkernels.batches.zarr_rows import ZarrRows
from gradkernels.names import pick

NOTE_SECONDS = 0.5
"""Between two notes, each of which waits for the disk in a thread: what a kill costs is computed again."""

ROW_FILE_KINDS: dict[str, type[RowFile]] = {".npy": NpyRows, ".zarr": ZarrRows}
"""Files of rows, by the end of their names."""


def beside(path: Path) -> Path:
    """Return where the note of a file of rows is."""
    return path.with_name(f"{path.name}.progress.json")


def rows_into_file(stream: Stream, call: BatchCall, path: str | os.PathLike[str]) -> Any:
    """Write each batch's rows into a file, behind those that the same call wrote before it ended.

    Args:
        stream: Of the batches.
        call: What is asked of each.
        path: Of the file.

    Raises:
        TypeError: There are several arrays.
        ValueError: The file has rows of something else, or of other batches, or was made by something else.
        OSError: It cannot be written.
    """
    if call.options.get("by") is not None:
        raise TypeError("by= gives several arrays and a file has one; leave out out=, or call with parameters= for "
                        "each group")  # fmt: skip
    found = Path(path)
    file = pick(ROW_FILE_KINDS, found.suffix, "kind of file for rows")(found)
    known = _known(file.path, identity_of_call(call, stream))
    try:
        if known.batches:
            file.resume(known.rows, known.row)
        else:
            _save(known, file.path)
            _remove(file.path)
        _write_all(stream, call, file, known)
        return file.finish()
    finally:
        file.close()


def _write_all(stream: Stream, call: BatchCall, file: RowFile, known: Note) -> None:
    note = Note(known.asked)
    with BackgroundSaves(NOTE_SECONDS) as saves:
        try:
            for batch in stream.batches(call, known=True, skip=known.batches):
                after = note.after(batch)
                if batch.number < known.batches:
                    require_same_batches(after, known, file.path, "rows")
                elif batch.size:
                    file.write(call(batch))
                note = after
                if batch.number >= known.batches and saves.due():
                    saves.begin(_settled(note, file))
        except BaseException:
            if note.batches > known.batches:
                with suppress(OSError):  # what was noted before stays true
                    saves.end(_settled(note, file))
            raise
        require_all_batches(note, known, file.path)
        saves.end(_settled(note, file))


def _settled(note: Note, file: RowFile) -> Callable[[], None]:
    """Have a file of rows say how many it has; return what has the disk hold them, and then the note."""
    file.settle()
    of_rows = replace(note, row=file.row)

    def save() -> None:
        file.sync()
        _save(of_rows, file.path)

    return save


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
    note = note_of(found, asked, beside(path), path, "rows")
    if not path.exists():
        return Note(asked)
    return note


def _remove(path: Path) -> None:
    """Remove a file or a folder of rows, if it is there."""
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _save(note: Note, path: Path) -> None:
    """Put the note in the place of the one before, in one step."""
    new = beside(path).with_suffix(".new")
    try:
        with naming_the_way_on(path), open(new, "w") as file:
            json.dump(asdict(note), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, beside(path))
    except BaseException:
        new.unlink(missing_ok=True)
        raise
