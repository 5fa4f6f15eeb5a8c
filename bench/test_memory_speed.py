"""Regression gradients at the speed of memory: every number that `numba.fused` has to reach, beside its limit.

    make memory                            # measures results/memory-*.csv by `gradkernels run`, about 15 minutes, 6 GB
    pytest bench/test_memory_speed.py -s   # holds every promise against these files

`bandwidth.read` and `bandwidth.copy` only move the bytes of the case; they take turns with the kernels in every pass.
"""

from __future__ import annotations

import pytest
from readings import Readings, judge, ratio

from gradkernels.key import OUT

OURS = "numba.fused"
READ, COPY = "bandwidth.read", "bandwidth.copy"
SMALL, WIDE, LONG = ("small", 40, 1, 1), (("30", 10**6, 30, 1), ("64", 400_000, 64, 1)), ("1", 10**7, 1, 1)
PEERS = ("numpy.matmul", "numpy.blocked", "torch.closed", "torch.autograd", "jax.grad", "sklearn.loss")
MEGABYTE = 10**6
SATURATED = 0.85
THREADED = (
    ("30", "gradient", 10**6, 30),
    ("10", "gradient", 10**5, 10),
    ("30", "per_sample", 10**6, 30),
    ("logistic", "gradient", 10**6, 30),
    ("poisson", "gradient", 10**6, 30),
    ("softmax", "gradient", 10**6, 30),
)


@pytest.fixture(scope="module")
def readings():
    return Readings("memory-*.csv")


def test_a_small_gradient(readings):
    rows = readings.passes(SMALL, "gradient")
    least = {"numpy.matmul": 8, "torch.autograd": 100}
    figures = {peer: ratio(rows[peer], rows[OURS]) / times for peer, times in least.items()}
    assert not judge("gradient of 40 samples, times as fast as a peer, over what is promised", figures, least=1)


@pytest.mark.parametrize("cell", WIDE)
def test_a_gradient_reads_at_the_speed_of_memory(readings, cell):
    rows = readings.passes(cell, "gradient")
    missed = judge("gradient, share of the read bandwidth", {cell: ratio(rows[READ], rows[OURS])}, least=0.85)
    figures = {peer: ratio(rows[peer], rows[OURS]) for peer in PEERS if peer in rows}
    assert not missed | judge(f"gradient of {cell}, times as fast as a peer", figures, least=3)


@pytest.mark.parametrize("cell", [LONG, *WIDE])
def test_per_sample_gradients_are_written_at_the_speed_of_memory(readings, cell):
    rows, peer = readings.passes(cell, "per_sample"), "numpy.broadcast"
    given = rows[OURS + OUT]
    missed = judge("into out=, share of the bandwidth of a copy", {cell: ratio(rows[COPY], given)}, least=0.65)
    missed |= judge(f"into out=, times as fast as {peer}", {cell: ratio(rows[peer], given)}, least=4)
    fresh = {cell: ratio(rows[peer], rows[OURS])}
    assert not missed | judge(f"into fresh memory, times as fast as {peer}", fresh, least=1.3)


@pytest.mark.parametrize("quantity", ["norms", "moments", "clipped_sum"])
def test_other_quantities_cost_hardly_more_than_the_gradient_and_no_memory(readings, quantity):
    # The norms themselves are 8 MB; what counts is what comes on top of them.
    cell, ours = WIDE[0], OURS + OUT if quantity == "norms" else OURS
    times = {cell: ratio(readings.passes(cell, quantity)[ours], readings.passes(cell, "gradient")[OURS])}
    missed = judge(f"{quantity}, time over the gradient's", times, most=1.3)
    result = 8 * cell[1] if quantity == "norms" else 0
    peak = float(readings.passes(cell, quantity, "peak_bytes")[OURS].min()) - result
    assert not missed | judge(f"{quantity}, megabytes beyond inputs and result", {cell: peak / MEGABYTE}, most=1)


@pytest.mark.parametrize("family", ["logistic", "poisson", "softmax"])
def test_other_problems_cost_hardly_more_than_the_linear_one(readings, family):
    """Both in times of reading the data, since they were measured in different runs."""
    mine, linear = (readings.passes(cell, "gradient") for cell in ((family, 10**6, 30, 1), WIDE[0]))
    figures = {family: ratio(mine[OURS] / mine[READ], linear[OURS] / linear[READ])}
    assert not judge("gradient, time over that of linear", figures, most=1.5)


def test_softmax_of_ten_classes_is_faster_than_scikit_learn(readings):
    rows = readings.passes(("softmax10", 10**6, 30, 1), "gradient")
    figures = {"softmax": ratio(rows["sklearn.loss"], rows[OURS])}
    assert not judge("gradient of ten classes, times as fast as sklearn.loss", figures, least=2)


@pytest.mark.parametrize(("name", "quantity", "n", "features"), THREADED)
def test_two_threads_are_faster_than_one_that_does_not_saturate_memory(readings, name, quantity, n, features):
    """What one thread moves is held against the bandwidth of two."""
    way, moves = (OURS + OUT, COPY) if quantity == "per_sample" else (OURS, READ)
    one = readings.passes((name, n, features, 1), quantity)[way]
    two = readings.passes((f"{name}-2", n, features, 2), quantity)
    saturated = ratio(two[moves], one) >= SATURATED
    says = "two threads, times as fast as one" + " (which saturates memory)" * saturated
    assert not judge(says, {(name, quantity): ratio(one, two[way])}, least=1.0 if saturated else 1.6)


@pytest.mark.parametrize("quantity", ["gradient", "per_sample"])
def test_the_first_call_is_quick_once_the_disk_cache_is_warm(readings, quantity):
    """Each pass is a fresh process; all but the first find what numba has compiled."""
    first = readings.passes(WIDE[0], quantity, "seconds_first")[OURS]
    steady = readings.passes(WIDE[0], quantity)[OURS]
    figures = {quantity: float((first - steady).iloc[1:].max())}
    assert not judge("seconds of build and first call with a warm disk cache", figures, most=0.5)
