"""What a file has of a call over batches: how many batches, of what, and whether it is of the same call and data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gradkernels.batches.loading.batch import Batch
from gradkernels.batches.loading.digests import digest

VERSION = 2


@dataclass(frozen=True)
class Note:
    """What a file has of the batches.

    Attributes:
        asked: What its results are, by name: the quantity, the problem, fingerprints of theta and options.
        batches: How many batches it has.
        rows: How many samples.
        row: Dtype and shape of a row; empty where the file has none.
        first: Fingerprint of the first batch.
        seen: Fingerprint of all of them, one after the other.
        version: Of the note.
    """

    asked: dict[str, str]
    batches: int = 0
    rows: int = 0
    row: str = ""
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


def note_of(found: Any, asked: dict[str, str], noted: Path, path: Path, has: str) -> Note:
    """Return a note that was read.

    Args:
        found: What was read.
        asked: What tells this call from others.
        noted: Where it is.
        path: Of the file that it is of.
        has: What the file has, as a message says it.

    Raises:
        ValueError: It is no note of this version, or of another call.
    """
    fields = set(asdict(Note(asked)))
    if not isinstance(found, dict) or fields != set(found) or found["version"] != VERSION:
        raise ValueError(f"{noted} is no note of this version; delete it and {path.name}, or write to another file")
    _require_kinds(found, noted, path)
    note = Note(**found)
    if different := sorted(
        name for name in asked.keys() | note.asked.keys() if asked.get(name) != note.asked.get(name)
    ):
        raise ValueError(f"{path} has {has} of another call: {' and '.join(different)} {_are(different)}; call with "
                         "the same to go on, or write to another file")  # fmt: skip
    return note


def require_same_batches(after: Note, known: Note, path: Path, has: str) -> None:
    """Raise a ValueError where batches are not those that a file has results of.

    Args:
        after: What is noted of those that were gone through now.
        known: What the file has.
        path: Of the file.
        has: What it has, as a message says it.
    """
    other = (after.seen, after.rows) != (known.seen, known.rows)
    if after.first != known.first or (after.batches == known.batches and other):
        which = "the first batch is" if after.first != known.first else f"the first {known.batches:,} batches are"
        raise ValueError(f"{which} not what {path} has {has} of; pass the same data in the same order (a loader that "
                         "shuffles has another one each time), or write to another file")  # fmt: skip


def require_all_batches(note: Note, known: Note, path: Path) -> None:
    """Raise a ValueError where a file has more batches than there are.

    Args:
        note: What is noted after the last one.
        known: What the file has.
        path: Of the file.
    """
    if note.batches < known.batches:
        raise ValueError(f"{path} has {known.batches:,} batches and there are {note.batches:,} now; pass the same "
                         "ones, or write to another file")  # fmt: skip


def _require_kinds(found: dict[str, Any], noted: Path, path: Path) -> None:
    """Raise a ValueError where a note has something else than what such a note can have.

    Args:
        found: Its entries.
        noted: Where it is.
        path: Of the file that it is of.
    """
    for name, like in asdict(Note({})).items():
        value = found[name]
        if type(value) is not type(like) or (type(value) is int and value < 0):
            raise ValueError(f"{noted} was changed: {name} is {value!r}, and no call notes that; put back what was "
                             f"there, or delete it and {path.name} and begin anew")  # fmt: skip


def _are(names: list[str]) -> str:
    return "is not the same" if len(names) == 1 else "are not the same"
