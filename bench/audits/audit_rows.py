"""The file of audits: a row for each trial."""

from __future__ import annotations

import csv

COLUMNS = (
    "model", "says", "problem", "tool", "package", "version", "torch", "n", "trial", "asks", "outcome", "parameter",
    "sample", "found", "diagnosis", "error", "tolerance",
)  # fmt: skip


def write(path, rows):
    """Write rows as they come, so that a run that is stopped leaves those that are done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow(row)
            file.flush()


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
