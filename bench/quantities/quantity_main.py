"""The command line of `python bench/quantities`."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from quantity_rows import read_rows
from quantity_table import details, shortfalls, summary

RESULTS = Path(__file__).parents[2] / "results"
RESULT_SHARE = 32
"""Rows may take this part of the machine's memory: a few of them are alive at a time."""

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def options():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="What each quantity costs over a plain forward and backward pass.")
    parser.add_argument("--models", default="", help="names, separated by commas; all of them by default")
    parser.add_argument("--sizes", default="", help="numbers of samples; 16, 64, 128, 512 by default")
    parser.add_argument("--quantity", default="", help="functions, or calls such as 'inner K=8'; all by default")
    parser.add_argument("--threads", type=int, default=1, help="of each way")
    parser.add_argument("--budget", default="25min", help="what no longer fits is left for the next call")
    parser.add_argument("--rounds", type=int, default=7, help="turns of a cell that are aimed at")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for one way's first call and proof")
    parser.add_argument("--out", type=Path, default=RESULTS / "quantities.csv", help="the file; it is added to")
    parser.add_argument("--show", action="store_true", help="measure nothing, print the file's tables")
    parser.add_argument("--summary", action="store_true", help="measure nothing, print the tables of aims only")
    return parser


def seconds_of(text):
    """Return `90s`, `25min` or `1h` in seconds; a number by itself is minutes.

    Raises:
        ValueError: It is none of these.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(s|min|h)?", text.strip())
    if found is None:
        raise ValueError(f"--budget {text!r}: write a number with {', '.join(UNITS)}, such as 25min")
    return float(found[1]) * UNITS[found[2] or "min"]


def measure(given):
    """Measure what the file lacks.

    Args:
        given: Options.
    """
    from quantity_asks import ASKS, chosen_asks
    from quantity_models import MODELS
    from quantity_orders import Orders
    from quantity_run import Run

    from gradkernels.bench.isolation.limits import most_bytes
    from gradkernels.names import pick, split_names

    until = time.monotonic() + seconds_of(given.budget)
    models = [
        pick({one: one for one in MODELS}, name, "model") for name in split_names(given.models or ",".join(MODELS))
    ]
    asks = chosen_asks(split_names(given.quantity)) if given.quantity else tuple(ASKS)
    sizes = tuple(int(one) for one in split_names(given.sizes)) if given.sizes else ()
    most = (most_bytes() or 2**34) // RESULT_SHARE
    given.out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(given.out, Orders("", given.threads, "", (), (), given.rounds, 0.0, most), given.patience, tell)
    run.go(models, asks, sizes, until)
    if run.left:
        print("\nNot measured; the same command goes on:", *run.left, sep="\n  ")


def tell(line):
    """Print a line of progress at once."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main(arguments=None):
    """Measure and print; return the exit code."""
    from gradkernels.bench.isolation.signals import Stopped, stop_on_signals

    given = options().parse_args(arguments)
    try:
        with stop_on_signals():
            if not (given.show or given.summary):
                measure(given)
        rows = read_rows(given.out)
    except Stopped as stopped:
        tell("stopped; the same command goes on")
        return stopped.code
    except ValueError as error:
        print(error)
        return 2
    if not rows:
        print(f"{given.out.name} has no rows yet; `python bench/quantities` measures them.")
        return 0
    print(*summary(rows), sep="\n")
    if not given.summary:
        print(*details(rows), "\nCells in which another library is faster:", *shortfalls(rows), sep="\n")
    return 0
