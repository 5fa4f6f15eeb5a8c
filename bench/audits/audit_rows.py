"""The file of audits: a row for each trial."""

from __future__ import annotations

import csv
from itertools import groupby

COLUMNS = (
    "model", "says", "problem", "tool", "package", "version", "torch", "n", "trial", "asks", "outcome", "parameter",
    "sample", "found", "diagnosis", "error", "tolerance",
)  # fmt: skip


def write(path, rows, place):
    """Write rows as they come, in place of those of the same model and set-up; a run that is stopped leaves the others.

    Args:
        path: Of the file.
        rows: Those of one audit one after the other.
        place: Gives the place of a model and a set-up in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = read(path) if path.exists() else []
    for audit, group in groupby(rows, key=_audit_of):
        made = [{name: "" if value is None else str(value) for name, value in row.items()} for row in group]
        kept = [row for row in kept if _audit_of(row) != audit] + made
        kept.sort(key=lambda row: place(*_audit_of(row)))
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(kept)


def _audit_of(row):
    return row["model"], row["tool"]


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
