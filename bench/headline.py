"""The two tables of docs/how-fast.md, as Markdown, from the results that `make modules` and `make memory` measured.

python bench/headline.py modules
python bench/headline.py memory
"""

from __future__ import annotations

import sys

from readings import Readings, ratio
from test_memory_speed import COPY, LONG, OURS, READ, SMALL, WIDE
from test_modules import BATCH, fastest, is_fresh, is_kernel, is_other, model_of, over_limit, timed_cells

from gradkernels.key import OUT

PEERS = {
    "gradient": ("numpy.matmul", "torch.autograd", "jax.grad", "sklearn.loss"),
    "per_sample": ("numpy.broadcast",),
}


def modules():
    """For each model and number of samples on one thread: the fastest kernel and the fastest of other libraries."""
    yield "| model, n | batch, ms | fastest | ms | of the limit | others | x |"
    yield "|---|--:|---|--:|--:|---|--:|"
    readings = Readings("modules-*.csv")
    order = ("mlp", "cnn", "resnet", "transformer", "lstm", "embedding_bag")
    for cell in sorted(timed_cells(readings), key=lambda cell: (order.index(model_of(cell)), cell[1])):
        if cell[3] != 1:
            continue
        rows, seconds = readings.passes(cell, "per_sample"), readings.seconds(cell, "per_sample")
        best, other = fastest(seconds, is_fresh), fastest(seconds, is_other)
        shares = "{:.2f}, {:.2f}".format(*(over_limit(readings, cell, some) for some in (is_fresh, is_kernel)))
        batch = readings.seconds(cell, "gradient")[BATCH]
        others = f"`{other}` | {ratio(rows[other], rows[best]):.1f}" if other else "none in its time |"
        yield (
            f"| {model_of(cell)}, {cell[1]:,} | {milliseconds(batch)} | `{best}` | {milliseconds(seconds[best])} "
            f"| {shares} | {others} |"
        )


def memory():
    """For each size: the time of `numba.fused`, its share of what only moves the bytes, and how far others are."""
    yield "| what | ms | of the bandwidth | times as fast as |"
    yield "|---|--:|--:|---|"
    readings = Readings("memory-*.csv")
    for cell in (SMALL, *WIDE):
        yield line(readings, cell, "gradient", OURS, READ)
    for cell in (LONG, *WIDE):
        yield line(readings, cell, "per_sample", OURS + OUT, COPY)
    gradient = readings.passes(WIDE[0], "gradient")[OURS]
    for quantity in ("norms", "moments", "clipped_sum"):
        rows = readings.passes(WIDE[0], quantity)
        ours = OURS + OUT if quantity == "norms" else OURS
        more = f"{ratio(rows[ours], gradient):.2f} times its gradient's time"
        yield f"| {quantity}, {size(WIDE[0])} | {milliseconds(rows[ours].median())} | | {more} |"


def line(readings, cell, quantity, ours, moves):
    rows = readings.passes(cell, quantity)
    peers = ", ".join(f"{ratio(rows[peer], rows[ours]):.1f} `{peer}`" for peer in PEERS[quantity] if peer in rows)
    share = "" if cell == SMALL else f"{ratio(rows[moves], rows[ours]):.0%}"
    into = " into `out=`" if ours.endswith(OUT) else ""
    return f"| {quantity}{into}, {size(cell)} | {milliseconds(rows[ours].median())} | {share} | {peers} |"


def size(cell):
    return f"{cell[1]:,} x {cell[2]}"


def milliseconds(seconds):
    return f"{seconds * 1e3:.3g}"


if __name__ == "__main__":
    print(*{"modules": modules, "memory": memory}[sys.argv[1]](), sep="\n")
