"""Rows beyond memory: `python bench/dask_blocks.py --gigabytes 50`, figures of `gk.gradient` on dask arrays.

The rows are made when they are needed, so that no disk is measured, and reading them alone is what making them takes.
Passes to be compared take turns in one process with the same workers; figures are medians of ratios.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median

import dask
from dask_rows import FEATURES, PEERS, THETA, by_hand, gradient, made, reading, rows_of
from process_bound import two_over_one, watched
from scale_rows import OUT, Figure, write_figures
from scale_turns import in_turns, ratio
from threadpoolctl import threadpool_limits

import gradkernels as gk

SPEED_UP_GIGABYTES = 10
"""Of the passes of one worker and of two: seconds, beside which the start of a pass is little."""

GIB = 2**30


def two_workers(gigabytes, passes):
    """Yield the figures of a pass with two workers, and of the same with one."""
    large, small = rows_of(gigabytes), rows_of(min(gigabytes, SPEED_UP_GIGABYTES))
    told = {"gigabytes": gigabytes, "blocks": large[0].numblocks[0], "workers": 2, "passes": passes}
    with gk.cluster(2, memory_limit="2 GiB"), watched() as peak:
        found = in_turns(passes, read=reading(*large), whole=gradient(*large))
    yield Figure("peak memory of all processes", peak[0] / GIB, "GiB", "<= 4", **told)
    yield Figure("seconds of a pass", median(found["whole"]), "s", "", **told)
    yield Figure("reading alone over a pass", ratio(found["read"], found["whole"]), "ratio", ">= 0.8", **told)
    times = {workers: [] for workers in (1, 2)}
    for _ in range(passes):  # in turns
        for workers, one in times.items():
            with gk.cluster(workers):
                one += in_turns(1, whole=gradient(*small))["whole"]
    told |= {"gigabytes": min(gigabytes, SPEED_UP_GIGABYTES), "blocks": small[0].numblocks[0]}
    yield Figure("two workers over one", ratio(times[1], times[2]), "ratio", ">= 1.8", **told)


def by_numpy_alone(rows, numbers):
    """Compute by numpy alone what the gradient needs of some blocks, in this process, on one thread.

    Args:
        rows: Of each block.
        numbers: Of the blocks.
    """
    with threadpool_limits(1):
        for number in numbers:
            x, y = made((rows, FEATURES), (number,)), made((rows,), (number,))
            (x @ THETA[1:] + THETA[0] - y) @ x


def bound(gigabytes, passes):
    """Yield two processes over one where nothing hands out the blocks."""
    x, _ = rows_of(min(gigabytes, SPEED_UP_GIGABYTES))
    blocks = x.numblocks[0]
    found = two_over_one(partial(by_numpy_alone, x.chunks[0][0]), blocks, passes)
    told = {"gigabytes": min(gigabytes, SPEED_UP_GIGABYTES), "blocks": blocks, "workers": 2, "passes": passes}
    yield Figure("two processes over one, numpy alone", found, "ratio", "", **told)


def overhead(passes):
    """Yield what a block costs beside its computation, with blocks of one row."""
    blocks = 1000
    x, y = rows_of(blocks * 8 * FEATURES / 1e9, 8 * FEATURES)
    told = {"gigabytes": 0.0, "blocks": blocks, "passes": passes}
    with dask.config.set(scheduler="synchronous"):
        found = in_turns(passes, whole=gradient(x, y))
        yield Figure("a block of one row, in this thread", 1e3 * median(found["whole"]) / blocks, "ms", "< 2",
                     workers=0, **told)  # fmt: skip
    with gk.cluster(2) as started:
        client = started.get_client()
        found = in_turns(
            passes,
            whole=gradient(x, y),
            hand=by_hand(x, y),
            nothing=lambda: client.gather(client.map(abs, range(blocks), pure=False)),
        )
    each = {name: 1e3 * median(times) / blocks for name, times in found.items()}
    told["workers"] = 2
    yield Figure("a block of one row, by two workers", each["whole"], "ms", "< 2", **told)
    yield Figure("the same by hand, numpy in dask", each["hand"], "ms", "", **told)
    yield Figure("a task of distributed that does nothing", each["nothing"], "ms", "", **told)


def peers(gigabytes, passes):
    """Yield the time of others over ours, on the same rows with the same workers."""
    x, y = rows_of(min(gigabytes, 4))
    told = {"gigabytes": min(gigabytes, 4), "blocks": x.numblocks[0], "workers": 2, "passes": passes}
    with gk.cluster(2):
        for name, make in PEERS.items():
            try:
                found = in_turns(passes, ours=gradient(x, y), theirs=make(x, y))
            except Exception as error:  # not installed, or not for this version of dask
                yield Figure(f"{name} over ours", f"{type(error).__name__}: {error}"[:120], "", "", **told)
                continue
            yield Figure(f"{name} over ours", ratio(found["theirs"], found["ours"]), "ratio", "", **told)


def measured(gigabytes, passes):
    """Yield all figures."""
    yield from overhead(passes)
    yield from bound(gigabytes, passes)
    yield from two_workers(gigabytes, passes)
    yield from peers(gigabytes, passes)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of rows in a pass, 10^9 bytes")
    parser.add_argument("--passes", type=int, default=3, help="of which a figure is the median")
    parser.add_argument("--out", type=Path, default=OUT, help="the file; it is added to")
    given = parser.parse_args(arguments)
    command = f"python bench/dask_blocks.py --gigabytes {given.gigabytes:g} --passes {given.passes}"
    write_figures(given.out, measured(given.gigabytes, given.passes), command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
