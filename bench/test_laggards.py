"""What torch.hooks owes to a plain batch where it is slowest: convolutions, cells, made weights, long texts.

`pytest bench/test_laggards.py -s` prints, for each model and number of samples, the time of rows over the limit (a
batch's forward and backward pass, and writing the rows once) and that of norms and clipped sums over a batch, medians
of ratios of calls that take turns on one thread; of long texts the peak memory over a batch's too, of packed sequences
the time over a loop of single samples. About 4 minutes.

Limits are some tenths above what was measured on a machine with other work: they catch what has become slow.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from time import perf_counter, thread_time

import pytest
import torch
from laggard_models import made

import gradkernels as gk
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.tree import take

SECONDS, FEWEST = 5.0, 9
KINDS = ("rows", "rows, out=", "norms", "clipped sum")

LIMITS = {
    ("resnet", 16): (2.4, 2.4, 2.9, 3.2),
    ("resnet", 128): (1.9, 1.9, 2.1, 2.4),
    ("cnn", 128): (1.5, 1.5, 1.5, 1.7),
    ("mlp", 128): (2.3, 2.3, 3.2, 3.4),
    ("lstm", 128): (1.9, 1.9, 2.0, 2.4),
    ("GRUCell loop", 16): (3.2, 3.2, 3.3, 3.7),
    ("GRUCell loop", 128): (2.4, 2.4, 2.4, 3.0),
    ("Elman loop", 128): (3.6, 3.5, 4.0, 4.3),
    ("packed LSTM", 16): (2.2, 2.2, 2.3, 2.5),
    ("packed LSTM", 128): (1.9, 1.8, 2.1, 2.4),
    ("DropConnect", 128): (3.1, 3.0, 3.9, 4.0),
    ("weight norm", 128): (3.9, 3.9, 4.9, 5.3),
    ("spectral norm", 16): (4.5, 4.4, 5.5, 6.0),
    ("spectral norm", 128): (4.0, 3.8, 5.4, 5.9),
    ("weight standardization", 128): (3.3, 3.3, 3.6, 3.8),
    ("merged LoRA", 16): (5.0, 4.5, 5.2, 5.7),
    ("merged LoRA", 128): (3.8, 3.7, 4.3, 4.7),
}
"""Of rows in fresh memory, rows in memory that is given, norms and clipped sum, by model and number of samples."""

RECORDED_LIMITS = {
    ("spectral norm", 128): (1.5, 1.5, 1.3, 1.4),
    ("weight norm", 128): (1.8, 1.8, 1.5, 1.7),
    ("merged LoRA", 128): (1.3, 1.3, 1.2, 1.3),
    ("DropConnect", 128): (1.4, 1.4, 1.2, 1.4),
    ("weight standardization", 128): (2.2, 2.2, 3.3, 3.3),
}
"""The same of `torch.recorded`, for weights that are made of parameters."""


def plain(problem, own, x, y):
    """One forward and backward pass of the batch."""
    return torch.autograd.grad(problem.loss_fn(problem.output(x), y), own)


def calls(name, n, way="hooks"):
    """The batch, writing the rows, and each quantity, as calls without arguments."""
    problem, x, y = made(name, n)
    theta = problem.parameters()
    out = {key: torch.empty((n, *one.shape)) for key, one in theta.items()}
    build = {one: gk.kernel(f"torch.{way}.{one}").build(problem) for one in ("per_sample", "norms", "clipped_sum")}
    rows = partial(build["per_sample"], theta, x, y)
    quantities = (rows, partial(rows, out=out), partial(build["norms"], theta, x, y))
    clipped = partial(build["clipped_sum"], theta, x, y, max_norm=1.0)
    return {
        "batch": partial(plain, problem, [*theta.values()], x, y),
        "write": lambda: [one.fill_(1.0) for one in out.values()],
        **dict(zip(KINDS, (*quantities, clipped), strict=True)),
    }


def seconds(call):
    """Processor seconds of this thread, which computes everything: other work on the machine counts less."""
    started = thread_time()
    call()
    return thread_time() - started


def measured(of, long=SECONDS):
    """Each quantity's time over what it owes, medians of ratios of calls that take turns."""
    torch.set_num_threads(1)
    for call in of.values():
        for _ in range(3):
            call()
    found, end = {key: [] for key in of}, perf_counter() + long
    while perf_counter() < end or len(found["batch"]) < FEWEST:
        for key, call in of.items():
            found[key].append(seconds(call))
    limit = [batch + write for batch, write in zip(found["batch"], found["write"], strict=True)]
    owed = {key: limit if key.startswith("rows") else found["batch"] for key in of if key in KINDS}
    return {key: median(a / b for a, b in zip(found[key], one, strict=True)) for key, one in owed.items()}


@pytest.mark.parametrize(("name", "n"), LIMITS)
def test_time_over_the_limit(name, n):
    found = measured(calls(name, n))
    print(f"\n{name}, n = {n}: " + ", ".join(f"{key} {found[key]:.2f}" for key in KINDS))
    late = {key: found[key] for key, most in zip(KINDS, LIMITS[name, n], strict=True) if found[key] > most}
    assert not late


@pytest.mark.parametrize(("name", "n"), RECORDED_LIMITS)
def test_recordings_of_made_weights_over_the_limit(name, n):
    found = measured(calls(name, n, "recorded"))
    print(f"\n{name}, n = {n}, recorded: " + ", ".join(f"{key} {found[key]:.2f}" for key in KINDS))
    late = {key: found[key] for key, most in zip(KINDS, RECORDED_LIMITS[name, n], strict=True) if found[key] > most}
    assert not late


@pytest.mark.parametrize("n", [16, 128])
def test_packed_sequences_take_less_time_than_a_loop(n):
    problem, x, y = made("packed LSTM", n)
    parts, own = [(take(x, slice(i, i + 1)), y[i : i + 1]) for i in range(n)], [*problem.parameters().values()]
    loop = {"batch": lambda: [plain(problem, own, *part) for part in parts], "write": lambda: None}
    found = measured(loop | {key: call for key, call in calls("packed LSTM", n).items() if key in KINDS})
    print(f"\npacked LSTM, n = {n}, over a loop: " + ", ".join(f"{key} {one:.2f}" for key, one in found.items()))
    assert max(found.values()) < 1


@pytest.mark.parametrize("name", ["texts of 2048", "texts of 8192"])
def test_long_texts_cost_little_more_than_a_batch_in_time_and_memory(name):
    of = {key: call for key, call in calls(name, 2).items() if not key.startswith("rows")}
    for call in of.values():
        call()
    peaks = {key: min(peak_bytes(call) for _ in range(3)) for key, call in of.items()}
    found = measured(of, 2 * SECONDS)
    text = ", ".join(f"{key} {one:.2f} of its time, {peaks[key] / peaks['batch']:.2f} of its memory"
                     for key, one in found.items())  # fmt: skip
    print(f"\n{name}, n = 2, over a batch: {text}")
    assert max(found.values()) < 1.9
    assert max(peaks[key] for key in found) < 1.6 * peaks["batch"]
