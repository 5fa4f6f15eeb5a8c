"""The command: makes the audits and their file, or prints its tables."""

from __future__ import annotations

import argparse
from pathlib import Path

import audit_rows
import audit_tables

FILE = Path("results/audits.csv")


def main():
    parser = argparse.ArgumentParser(prog="python bench/audits", description=__doc__)
    parser.add_argument("--tool", help="Only this one.")
    parser.add_argument("--model", help="Only this one.")
    parser.add_argument("--out", type=Path, default=FILE, help="The file to write, or to read.")
    parser.add_argument("--table", choices=audit_tables.TABLES, help="Print a table of the file, and audit nothing.")
    given = parser.parse_args()
    if given.table:
        print(audit_tables.TABLES[given.table](audit_rows.read(given.out)), end="")
        return 0
    from audit_run import audits, place

    audit_rows.write(given.out, audits(given.tool, given.model), place)
    return 0
