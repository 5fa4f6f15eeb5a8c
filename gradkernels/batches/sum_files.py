"""A sum in a file that outlives its process: what it was after so many batches, and the same call goes on there."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any
from zipfile import BadZipFile

import numpy as np

from gradkernels.batches.asking import identity_of_call
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.loading.stream import Stream
from gradkernels.batches.notes import Note, note_of, require_all_batches, require_same_batches
from gradkernels.batches.row_files import naming_the_way_on
from gradkernels.batches.sums import Total

SAVE_SECONDS = 5.0
"""Between two writings: what a kill costs is computed again."""

SHARE = 20
"""How many times as long as writing takes there is none: of a large sum a twentieth of the time goes there."""

END = ".npz"
"""Of the names of such files, which have arrays alone, and a note as bytes among them."""


def sum_with_file(stream: Stream, call: BatchCall, total: Total, name: str) -> None:
    """Add all batches up, behind those that the same call had added up before it ended, and keep the sum in a file.

    Args:
        stream: Of the batches.
        call: What is asked of each.
        total: Of no batch as yet.
        name: Of the file, which is there as a whole after each writing.

    Raises:
        ValueError: The file has the sum of something else, or of other batches, or is none.
        OSError: It cannot be written.
    """
    path, asked = Path(name), identity_of_call(call, stream)
    known, arrays = _read(path, asked)
    note, saved, wait = Note(asked), monotonic(), 0.0
    try:
        for batch in stream.batches(call, known=True, skip=known.batches):
            after, new = note.after(batch), batch.number >= known.batches
            if not new:
                require_same_batches(after, known, path, "the sum")
            if batch.size and (new or not total.samples):
                total.add(call(batch), batch.size)
                if not new:  # the sum of the file takes its place: it was computed for its form alone
                    _resume(total, arrays, known.rows, path)
            note = after
            if new and monotonic() - saved >= wait:
                wait = _write(path, note, total)
                saved = monotonic()
    except BaseException:
        if note.batches > known.batches:
            with suppress(OSError):  # what was written before stays true
                _write(path, note, total)
        raise
    require_all_batches(note, known, path)
    if note.batches > known.batches:
        _write(path, note, total)


def _resume(total: Total, arrays: Sequence[Any], samples: int, path: Path) -> None:
    try:
        total.resume(arrays, samples)
    except ValueError as error:
        raise ValueError(f"{path} has not the sum of these batches ({error}); delete it, and begin anew") from None


def _write(path: Path, note: Note, total: Total) -> float:
    """Put note and sum in the place of those before, in one step; return seconds for which to write nothing else."""
    start, new = monotonic(), path.with_name(f"{path.name}.{os.getpid()}.new")
    said = np.frombuffer(json.dumps(asdict(note)).encode(), np.uint8)
    try:
        with naming_the_way_on(path), open(new, "wb") as file:
            np.savez(file, said, *total.arrays())
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    return max(SAVE_SECONDS, SHARE * (monotonic() - start))


def _read(path: Path, asked: dict[str, str]) -> tuple[Note, list[Any]]:
    """Return what the file has; a note of nothing where there is none."""
    if path.suffix != END:
        raise ValueError(f"checkpoint is {str(path)!r}; it must be the name of a file that ends in {END}")
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            said, *arrays = [file[f"arr_{place}"] for place in range(len(file.files))]
            found = json.loads(said.tobytes())
    except FileNotFoundError:
        return Note(asked), []
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no sum that can be read ({error}); delete it, or name another file") from None
    return note_of(found, asked, path, path, "the sum"), arrays
