"""Per-sample gradients of modules: what the fastest kernel owes to the limit and to other libraries, on six models.

    make modules                       # measures results/modules-*.csv by `gradkernels run`, about an hour
    pytest bench/test_modules.py -s    # holds every promise against these files

The limit is a plain batch backward plus writing the n p numbers of the per-sample gradients, from the same passes.
Other libraries are Opacus in its modes, BackPACK, and vmap of `torch.func`, which is torch's own recipe.
"""

from __future__ import annotations

import math

import pytest
from readings import Readings, judge, ratio

from gradkernels.key import OUT, Key

OTHERS = ("opacus.", "backpack.", "torch.vmap")
BATCH, WRITE, HOOKS = "torch.autograd", "bandwidth.write", "torch.hooks"
WITHIN = {"mlp": 1.3, "cnn": 1.3, "resnet": 1.3, "embedding_bag": 1.3, "transformer": 1.6, "lstm": 3.0}
"""Time over the limit that is allowed, from 64 samples on."""


@pytest.fixture(scope="module")
def readings():
    return Readings("modules-*.csv")


def is_other(way):
    """Whether it is another library's; what `out=` is for vmap is ours."""
    return way.startswith(OTHERS) and not way.endswith(OUT)


def is_kernel(way):
    return Key.parse(way).kind not in ("conversion", "bandwidth", "control")


def is_fresh(way):
    """Whether the result is in memory of its own, as all libraries give it."""
    return is_kernel(way) and not way.endswith(OUT)


def fastest(seconds, chosen):
    """The fastest of the kernels that are `chosen`; None where none of them fitted into the budget."""
    return next((way for way in seconds.index if chosen(way)), None)


def timed_cells(readings):
    """The cells in which a kernel fitted into the budget."""
    return [cell for cell in readings.cells("per_sample") if fastest(readings.seconds(cell, "per_sample"), is_fresh)]


def model_of(cell):
    """`mlp` of the file modules-mlp-2.csv, whose cases have two threads."""
    return cell[0].rpartition("-")[0]


def over_limit(readings, cell, chosen):
    """Time of the fastest of some kernels over the limit, median over passes."""
    rows, batch = readings.passes(cell, "per_sample"), readings.passes(cell, "gradient")[BATCH]
    return ratio(rows[fastest(readings.seconds(cell, "per_sample"), chosen)], batch + rows[WRITE])


def test_the_winner_is_never_slower_than_another_library_and_mostly_much_faster(readings):
    ratios, opacus = {}, {}
    for cell in timed_cells(readings):
        rows, seconds = readings.passes(cell, "per_sample"), readings.seconds(cell, "per_sample")
        best, other = rows[fastest(seconds, is_fresh)], fastest(seconds, is_other)
        if other:
            ratios[cell] = ratio(rows[other], best)
        if "opacus.hooks" in rows:
            opacus[cell] = ratio(rows["opacus.hooks"], best)
    missed = judge("best of the others over the winner", ratios, least=0.98)
    means = [math.exp(sum(map(math.log, some.values())) / len(some)) for some in (ratios, opacus)]
    print(f"geometric means: {means[0]:.3g} x the best of the others (limit 1.5), {means[1]:.3g} x Opacus (limit 3)")
    assert not missed
    assert means[0] >= 1.5
    assert means[1] >= 3


def test_the_winner_is_near_the_limit(readings):
    """Into memory of its own or into memory that is given."""
    figures = {
        cell: over_limit(readings, cell, is_kernel) / WITHIN[model_of(cell)]
        for cell in timed_cells(readings)
        if cell[1] >= 64
    }
    assert not judge("time over the limit, divided by what is allowed for the model", figures, most=1.0)


def test_the_hooks_alone_match_opacus_hooks_and_backpack(readings):
    figures = {}
    for cell in timed_cells(readings):
        rows = readings.passes(cell, "per_sample")
        if others := [way for way in ("opacus.hooks", "backpack.batch") if way in rows]:
            figures[cell] = min(ratio(rows[way], rows[HOOKS]) for way in others)
    assert not judge("best of Opacus hooks and BackPACK over torch.hooks", figures, least=1.0)


def test_large_results_are_written_once(readings):
    figures = {}
    for cell in timed_cells(readings):
        if model_of(cell) == "mlp" and cell[1] == 1024:
            rows, seconds = readings.passes(cell, "per_sample"), readings.seconds(cell, "per_sample")
            other = rows[fastest(seconds, is_other)]
            figures[*cell, "fresh, halves"] = ratio(other, rows[fastest(seconds, is_fresh)]) / 2
            figures[*cell, "out=, fifths"] = ratio(other, rows[fastest(seconds, is_kernel)]) / 5
    assert not judge("best of the others over the winner, MLP, n = 1024", figures, least=1.0)


@pytest.mark.parametrize("quantity", ["norms", "clipped_sum"])
def test_short_cuts_cost_hardly_more_than_a_batch(readings, quantity):
    times, memory = {}, {}
    for cell in readings.cells(quantity):
        way = fastest(readings.seconds(cell, quantity), is_fresh)
        if way is None:
            continue
        times[cell] = ratio(readings.passes(cell, quantity)[way], readings.passes(cell, "gradient")[BATCH])
        peaks, batch = (readings.passes(cell, one, "peak_bytes") for one in (quantity, "gradient"))
        if way in peaks and BATCH in batch:  # of the kernel that is fastest: another one's memory would be no help
            memory[*cell, way] = float(peaks[way].min() / batch[BATCH].min())
    missed = judge(f"{quantity}, time over a plain batch backward", times, most=1.5)
    assert not missed | judge(f"{quantity}, peak memory of the fastest over a plain batch backward's", memory, most=1.2)
