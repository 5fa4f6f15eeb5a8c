"""The command line of `python bench/over_batch` and `python bench/cuda.py`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from batch_models import MODELS
from batch_orders import QUANTITIES, Orders
from batch_plan import ORDER, cells, jobs
from batch_run import Run
from batch_table import cells_of
from batch_targets import print_tables, summary

from gradkernels.bench.isolation.limits import most_bytes
from gradkernels.bench.isolation.signals import Stopped, stop_on_signals
from gradkernels.bench.results.results_file import ResultsFile
from gradkernels.names import pick, split_names
from gradkernels.record import read

RESULTS = Path(__file__).parents[2] / "results"
RESULT_SHARE = 32
"""A result may take this part of the machine's memory: a few are alive at a time, and copies while they are proven."""


def options(**defaults):
    """Return the parser of the command line.

    Args:
        defaults: Other defaults than those of a run on the CPU.
    """
    parser = argparse.ArgumentParser(description="Time of per-sample gradients over that of a plain batch.")
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--sizes", default=",".join(map(str, sorted(ORDER))), help="numbers of samples")
    parser.add_argument("--quantities", default=",".join(QUANTITIES), help=f"of {', '.join(QUANTITIES)}")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, one after the other")
    parser.add_argument("--also", default="", help="globs of more kernels, such as 'torch.compiled*'")
    parser.add_argument("--minutes", type=float, default=25.0, help="what no longer fits is left for the next call")
    parser.add_argument("--seconds", type=float, default=0.6, help="for the turns of a cell, at least")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds for one kernel's first call and proof")
    parser.add_argument("--passes", type=int, default=1, help="fresh processes for each cell")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--no-jax", dest="jax", action="store_false", help="without JAX's vmap")
    parser.add_argument("--out", type=Path, default=RESULTS / "over_batch.csv", help="the results file; it is added to")
    parser.add_argument("--show", action="store_true", help="measure nothing, print the file's tables")
    parser.add_argument("--summary", action="store_true", help="measure nothing, print means and worst cells only")
    parser.set_defaults(**defaults)
    return parser


def measure(given):
    """Measure what the file lacks.

    Args:
        given: Options.
    """
    if given.device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"torch sees no {given.device} device here; run this where there is one, or with --device cpu")
    models = [name for name in split_names(given.models) if pick({one: one for one in MODELS}, name, "model")]
    quantities = [pick({one: one for one in QUANTITIES}, name, "quantity") for name in split_names(given.quantities)]
    sizes, threads = ([int(one) for one in split_names(text)] for text in (given.sizes, given.threads))
    also = tuple(split_names(given.also)) if given.also else ()
    most = (most_bytes() or 2**34) // RESULT_SHARE
    orders = Orders("", 1, given.device, "", cells(sizes, quantities), (), also, given.seconds, 0.0, most)
    started, with_jax = time.monotonic(), given.jax and given.device == "cpu"
    with ResultsFile(given.out, "resume") as file:
        for pass_ in range(1, given.passes + 1):
            until = started + 60 * given.minutes * pass_ / given.passes
            # On CUDA the allocator tells peaks while times are measured.
            todo = jobs(models, threads, memory=given.device == "cpu", jax=with_jax)
            run = Run(file, orders, pass_, given.patience, tell)
            run.go(todo, until)
    tell(f"measured for {(time.monotonic() - started) / 60:.1f} minutes")
    if run.left:
        print("\nNot measured; the same command goes on:", *run.left, sep="\n  ")


def tell(line):
    """Print a line of progress at once."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main(arguments=None, **defaults):
    """Measure and print; return the exit code."""
    given = options(**defaults).parse_args(arguments)
    try:
        with stop_on_signals():
            if not (given.show or given.summary):
                measure(given)
        records = read(given.out)
    except Stopped as stopped:
        tell("stopped; the same command goes on")
        return stopped.code
    except (ValueError, FileNotFoundError) as error:
        print(error)
        return 2
    if given.summary:
        print(*summary(cells_of(records)), sep="\n")
    else:
        print_tables(records)
    return 0
