"""Rows of a results file with literal times, for tests of what reads them."""

import csv
import io
import re
import unicodedata

from gradkernels.record import COLUMNS, KINDS, Measurement, Record, Status

KERNEL = "numpy.loop.norms"

# Eight passes that differ from their middle by 0.4% at most, and as many that are a third slower every other time.
STEADY = [1.00, 1.002, 0.998, 1.00, 1.004, 0.996, 1.00, 1.002]
NOISY = [1.00, 1.35, 0.97, 1.30, 1.02, 1.33, 1.01, 1.38]


def record(**changes):
    """A row; without a time unless `seconds_median` is given."""
    facts = {
        "schema": 1,
        "run": "run-a",
        "started": "2026-03-01T12:00:00+00:00",
        "machine": "desk",
        "cpu": "A processor",
        "cores": 2,
        "threads": 1,
        "os": "Linux 6",
        "python": "3.11.7",
        "versions": "numpy=2.4.6",
        "commit": "0123456789ab",
        "problem": "linear",
        "quantity": "norms",
        "kernel": KERNEL,
        "backend": "numpy",
        "n": 100,
        "features": 1,
        "parameters": 2,
        "dtype": "float64",
        "layout": "C",
        "device": "cpu",
        "seed": 0,
        "pass_": 1,
        "status": "ok",
    }
    proof = {"error": 0.0, "tolerance": 1e-12} if changes.get("status", "ok") == "ok" else {}
    return of({**facts, **proof, **changes})


def of(columns):
    """The record with these columns; the pass may be called as the field is."""
    return Record.of({name.rstrip("_"): value for name, value in columns.items()})


def changed(row, **columns):
    """The record with other values in some columns."""
    return of({**row.columns(), **columns})


def cells(row):
    """The values of a row's columns, in order."""
    return tuple(row.columns().values())


def passes(times, **changes):
    """One row per time, in passes 1, 2, ..."""
    return [record(pass_=i, seconds_median=seconds, **changes) for i, seconds in enumerate(times, 1)]


def scaled(times, factor):
    """The times, each `factor` times as long."""
    return [factor * seconds for seconds in times]


def refused(status, count=8, **changes):
    """Rows without a time."""
    return [record(pass_=i, status=status, reason=f"it is {status}", **changes) for i in range(1, count + 1)]


def cells_of(raw):
    """The cells of every row below a header, by the csv module's rules alone: numbers as numbers.

    Empty cells of columns that were added later are as those rows have them that are read without these columns.
    """
    for row in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")):
        if row and not row[0].endswith("schema"):
            later = {"block": 1, **told_by(value_of(row[COLUMNS.index("kernel")], "str"))}
            yield tuple(
                later[name] if not cell and name in later else value_of(cell, KINDS[name])
                for cell, name in zip(row, COLUMNS, strict=False)
            )


def value_of(cell, kind):
    if cell == "" or kind == "str":
        return "\r\n".join("".join(map(escaped, line)) for line in cell.split("\r\n"))
    if kind == "bool":
        return {"true": True, "false": False}[cell.lower()]
    return float(cell) if "float" in kind else int(float(cell)) if "." in cell else int(cell)


def escaped(character):
    """A character as it may be shown: what moves a terminal's cursor or turns its text round as Python writes it."""
    controls = unicodedata.category(character) == "Cc" and character not in "\t\n"
    turns = unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return ascii(character)[1:-1] if controls or turns else character


def told_by(kernel):
    """The columns that follow from a kernel's key."""
    kernel = " ".join(kernel.splitlines())
    if found := re.fullmatch(r"(\w+\.\w+\+?(\[[^][]+\])?)\.\w+(@out)?", kernel):
        return {"role": "kernel", "way": found[1], "out": bool(found[3])}
    roles = {"control": "control", "canary": "canary", "batch": "batch"}
    starts = {"bandwidth.": "bandwidth", "convert.": "conversion"}
    role = roles.get(kernel) or next((role for start, role in starts.items() if kernel.startswith(start)), "kernel")
    return {"role": role, "way": kernel, "out": False}


def shown(record):
    """The cells of a row that was read, None as the empty cell that it is."""
    return tuple("" if value is None else value for value in cells(record))


def measure_at_once(monkeypatch, passes=1):
    """Let runs begin no process: kernels and cases that are missing have rows at once, and no picture is drawn."""
    from gradkernels.bench.report.pictures import draw
    from gradkernels.bench.run.session import Session

    def measure_missing(session):
        done = {(row.kernel, row.case) for row in session.records}
        for case in session.plan.cases:
            for kernel in session.plan.kernels_of(case):
                if (kernel.key, session.plan.coordinates(case)) not in done:
                    timed = Measurement(kernel.key, kernel.backend.name, Status.ok, "", 0.0, 0.0, seconds_median=1e-6)
                    for pass_ in range(1, passes + 1):
                        session._write(case, pass_, timed, 1)
        return session.records

    monkeypatch.setattr(Session, "measure_missing", measure_missing)
    monkeypatch.setattr(draw, "draw", lambda *_, **__: b"")
