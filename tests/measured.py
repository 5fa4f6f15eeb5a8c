"""Rows of a results file with literal times, for tests of what reads them."""

from gradkernels.record import Record

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
