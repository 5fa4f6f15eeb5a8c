"""Regression gradients at the speed of memory: every number that `numba.fused` has to reach, beside its limit.

    pytest bench/test_memory_speed.py -s --memory-csv=results/memory.csv      # about 5 minutes, 4 GB
    pytest bench/test_memory_speed.py -s --memory-quick                       # small sizes, nothing is asserted

Each figure is a ratio within one race: kernels that are built and proven, and yardsticks that only move the bytes of
the case (see `gradkernels.bench.timing.bandwidth`), take turns in blocks of random order on shared inputs. The ratio
is the median over blocks of the times in one block. A test measures all that it is about, and fails at its end.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.bench.isolation.environment import child_environment, draw_cores, pin_to
from gradkernels.bench.timing.bandwidth import COPY, READ, Bandwidth
from gradkernels.bench.timing.outcome import OUT
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.slices import Entrant, race, warm_up
from gradkernels.bench.timing.traffic import traffic
from gradkernels.case import Case
from gradkernels.check import prove
from gradkernels.problems import REGRESSIONS

COLUMNS = (
    *("what", "problem", "quantity", "n", "features", "dtype", "threads"),
    *("kernel", "seconds", "bandwidth", "ratio", "limit", "met"),
)
WIDE = ((1_000_000, 30), (400_000, 64))
ROWS = ((10_000_000, 1), *WIDE)
GRADIENT_PEERS = ("numpy.matmul", "numpy.blocked", "torch.closed", "torch.autograd", "jax.grad", "sklearn.loss")
QUICK = 50  # times smaller
PROOF_SAMPLES = 10_007
WARM_SECONDS = 1.0
SOFTMAX = gk.SoftmaxRegression(classes=10)
MEGABYTE = 10**6


@dataclass
class Book:
    """Where figures go: to the screen, to the CSV, and to the end of the test if they miss their limit."""

    path: Path | None
    quick: bool
    way: str
    missed: list[str]

    def case(self, problem, quantity, n, features=1, threads=1):
        if self.quick and n > PROOF_SAMPLES:
            n //= QUICK
        return Case(problem, quantity, n, features=features, threads=threads)

    def key(self, quantity):
        """The kernel under test."""
        return f"{self.way}.{quantity}"

    def seconds(self) -> float:
        """For one race."""
        return 1.0 if self.quick else 12.0

    def note(self, what, case, kernel, seconds, ratio=None, least=None, most=None, moved=None):
        """One figure: `ratio` should be at least `least`, or at most `most`."""
        limit = f">= {least:g}" if least is not None else f"<= {most:g}" if most is not None else ""
        met = "" if not limit else bool(ratio >= least if least is not None else ratio <= most)
        bandwidth = (traffic(case).least if moved is None else moved) / seconds if seconds else None
        row = (what, case.problem.name, case.quantity.name, case.n, case.features, case.dtype, case.threads, kernel,
               _short(seconds), _short(bandwidth), _short(ratio), limit, met)  # fmt: skip
        told = f"{what}: {kernel} of {case.problem.name}, {case.n:,} x {case.features}"
        figure = "" if ratio is None else f" {ratio:.3g}" + (f" (limit {limit})" if limit else "")
        print(f"{told}: {_time(seconds)}{figure}{' MISSED' if met is False else ''}", flush=True)
        if met is False and not self.quick:
            self.missed.append(f"{told}: {ratio:.3g}, limit {limit}")
        if self.path:
            with self.path.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row)

    def close(self):
        """Fail if anything was missed since the last time."""
        missed, self.missed = self.missed, []
        assert not missed, "; ".join(missed)


def _short(number):
    return "" if number is None else f"{number:.4g}"


def _time(seconds):
    return "" if seconds is None else f"{seconds * 1e3:.4g} ms" if seconds > 1e-4 else f"{seconds * 1e6:.4g} us"


@pytest.fixture(scope="session")
def csv_path(request):
    path = request.config.getoption("memory_csv")
    if path:
        path.write_text(",".join(COLUMNS) + "\n")
    return path


@pytest.fixture
def book(request, csv_path):
    print()
    option = request.config.getoption
    return Book(csv_path, option("memory_quick"), option("memory_way"), [])


class Race:
    """Kernels and yardsticks on one case, timed in turns.

    Args:
        case: What to compute.
        keys: Kernels, with the suffix `@out` for those that get memory to write to; those that are not installed
            or declared are left out.
        seconds: For the race.
        yardsticks: Whether memory alone is timed as well.
    """

    def __init__(self, case, keys, seconds, yardsticks=True):
        self.case = case
        self.inputs = frozen(case.draw())
        calls = {}
        for key in keys:
            if call := called(case, key, self.inputs):
                calls[key] = call
        if yardsticks:
            calls |= {name: call for name, call, _ in Bandwidth(case, self.inputs).yardsticks()}
        self.slices = taken_turns(calls, seconds)

    def __contains__(self, key):
        return key in self.slices

    def seconds(self, key):
        """Per call, the median over slices."""
        return median(self.slices[key])

    def ratio(self, above, below):
        """Time of one over that of another, the median over blocks."""
        return ratio(self.slices[above], self.slices[below])


def taken_turns(calls, seconds, cores=1):
    """Slices of each call, block by block, on cores drawn at random."""
    entrants, rng = [Entrant(name, call) for name, call in calls.items()], np.random.default_rng()
    everywhere = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pin_to(draw_cores(cores, rng))
    try:
        for entrant in entrants:
            warm_up(entrant, WARM_SECONDS)
        race(entrants, seconds, lambda: None, rng)
    finally:
        pin_to(everywhere)  # the child processes need more than one
    return {entrant.name: entrant.slices for entrant in entrants}


def ratio(above, below):
    return median(a / b for a, b in zip(above, below, strict=False))


def frozen(inputs):
    for array in inputs:
        array.flags.writeable = False
    return inputs


def called(case, key, inputs):
    """A call of a proven kernel on `inputs` that ends when its result is there; None, and said, where it cannot."""
    kernel = {kernel.key: kernel for kernel in gk.kernels()}.get(key.removesuffix(OUT))
    reasons = ["it is not declared"] if kernel is None else kernel.unsupported(case)
    if reasons:
        print(f"left out: {key}: {'; '.join(reasons)}")
        return None
    kernel.backend.load()
    compute = kernel.build(case.problem)
    prove(kernel, compute, replace(case, n=min(case.n, PROOF_SAMPLES)))
    arrays = kernel.backend.put(inputs)
    options = {}
    if key.endswith(OUT):
        options["out"] = kernel.backend.put(np.empty(case.quantity.shape(case.n, inputs[0].shape), case.dtype))
    if kernel.backend.eager(case.device):
        return lambda: compute(*arrays, **options)
    return lambda: kernel.backend.wait(compute(*arrays, **options))


def test_a_small_gradient(book):
    case = book.case(gk.LinearRegression(), "gradient", 40)
    ours, limits = book.key("gradient"), {"numpy.matmul.gradient": 8, "torch.autograd.gradient": 100}
    one = Race(case, [ours, *limits], 2.0, yardsticks=False)
    book.note("gradient of 40 samples", case, ours, one.seconds(ours))
    for peer, least in limits.items():
        if peer in one:
            what = f"gradient of 40 samples, times as fast as {peer}"
            book.note(what, case, ours, one.seconds(ours), one.ratio(peer, ours), least=least)
    book.close()


@pytest.mark.parametrize(("n", "features"), WIDE)
def test_a_gradient_reads_at_the_speed_of_memory(book, n, features):
    case = book.case(gk.LinearRegression(), "gradient", n, features)
    ours, peers = book.key("gradient"), [f"{peer}.gradient" for peer in GRADIENT_PEERS]
    one = Race(case, [ours, *peers], book.seconds())
    book.note("reading the inputs", case, READ, one.seconds(READ))
    book.note("gradient, share of the read bandwidth", case, ours, one.seconds(ours), one.ratio(READ, ours), least=0.85)
    for peer in peers:
        if peer in one and peer != ours:
            book.note("gradient of a peer, share of the read bandwidth", case, peer, one.seconds(peer),
                      one.ratio(READ, peer))  # fmt: skip
            book.note(
                f"gradient, times as fast as {peer}", case, ours, one.seconds(ours), one.ratio(peer, ours), least=3
            )
    book.close()


@pytest.mark.parametrize(("n", "features"), ROWS)
def test_rows_are_written_at_the_speed_of_memory(book, n, features):
    case = book.case(gk.LinearRegression(), "per_sample", n, features)
    ours, peer = book.key("per_sample"), "numpy.broadcast.per_sample"
    one = Race(case, [*dict.fromkeys((ours, ours + OUT, peer, peer + OUT))], book.seconds())
    given = one.seconds(ours + OUT)
    book.note("copying into warm memory", case, COPY, one.seconds(COPY))
    for name in (peer, peer + OUT):
        book.note("rows of a peer", case, name, one.seconds(name))
    share = one.ratio(COPY, ours + OUT)
    book.note("rows into out=, share of the bandwidth of a copy", case, ours + OUT, given, share, least=0.65)
    times = one.ratio(peer, ours + OUT)
    book.note(f"rows into out=, times as fast as {peer}", case, ours + OUT, given, times, least=4)
    book.note(
        f"rows into out=, times as fast as {peer + OUT}", case, ours + OUT, given, one.ratio(peer + OUT, ours + OUT)
    )
    book.note(f"rows into fresh memory, times as fast as {peer}", case, ours, one.seconds(ours), one.ratio(peer, ours),
              least=1.3)  # fmt: skip
    book.close()


@pytest.mark.parametrize("quantity", ["norms", "moments", "clipped_sum"])
def test_other_quantities_cost_hardly_more_than_the_gradient_and_no_memory(book, quantity):
    n, features = WIDE[0]
    case = book.case(gk.LinearRegression(), quantity, n, features)
    ours, base = book.key(quantity), book.key("gradient")
    inputs = frozen(case.draw())
    # The norms themselves are 8 MB; what counts is what comes on top of them.
    call = called(case, ours + OUT if quantity == "norms" else ours, inputs)
    gradient = called(replace(case, quantity="gradient"), base, inputs)
    slices = taken_turns({ours: call, base: gradient}, book.seconds() / 2)
    what = f"{quantity}, time over the gradient's"
    book.note(what, case, ours, median(slices[ours]), ratio(slices[ours], slices[base]), most=1.3)
    if None in (peaks := [peak_bytes(call) for _ in range(3)]):
        print("left out: peak memory, which this system does not tell")
    else:
        what = f"{quantity}, megabytes beyond inputs and out="
        book.note(what, case, ours, None, min(peaks) / MEGABYTE, most=1.0)
    book.close()


@pytest.mark.parametrize("family", ["logistic", "poisson", "softmax"])
def test_other_problems_cost_hardly_more_than_the_linear_one(book, family):
    n, features = WIDE[0]
    case = book.case(REGRESSIONS[family](), "gradient", n, features)
    linear = replace(case, problem=gk.LinearRegression())
    ours = book.key("gradient")
    calls = {one.problem.name: called(one, ours, frozen(one.draw())) for one in (case, linear)}
    slices = taken_turns(calls, book.seconds() / 2)
    mine = slices[case.problem.name]
    what = f"gradient of {family}, time over that of linear"
    book.note(what, case, ours, median(mine), ratio(mine, slices["linear"]), most=1.5)
    book.close()


def test_softmax_of_ten_classes_is_faster_than_scikit_learn(book):
    case = book.case(SOFTMAX, "gradient", *WIDE[0])
    ours, peer = book.key("gradient"), "sklearn.loss.gradient"
    one = Race(case, [ours, peer], book.seconds())
    book.note("gradient of softmax, share of the read bandwidth", case, ours, one.seconds(ours), one.ratio(READ, ours))
    if peer in one:
        what = f"gradient of softmax, times as fast as {peer}"
        book.note(what, case, ours, one.seconds(ours), one.ratio(peer, ours), least=2)
    book.close()


THREADED = (
    ("linear", "gradient", 1_000_000, 30),
    ("linear", "gradient", 100_000, 10),
    ("linear", "per_sample@out", 1_000_000, 30),
    ("logistic", "gradient", 1_000_000, 30),
    ("poisson", "gradient", 1_000_000, 30),
    ("softmax", "gradient", 1_000_000, 30),
)
SATURATED = 0.85


@pytest.mark.parametrize(("family", "quantity", "n", "features"), THREADED)
def test_two_threads_are_faster_than_one_that_does_not_saturate_memory(book, family, quantity, n, features):
    """What one thread moves is held against the read bandwidth of two, timed in the same race, in a process of it."""
    case = book.case(REGRESSIONS[family](), quantity.removesuffix(OUT), n, features, threads=2)
    ours = book.key(quantity)
    given = (family, case.n, features, ours, book.seconds() / 2)
    code = f"from test_memory_speed import threads_race; threads_race{given}"
    variables = {**child_environment(1), "NUMBA_NUM_THREADS": "2"}
    slices = json.loads(child(code, variables))
    two, single, read = slices["2 threads"], slices["1 thread"], slices["read by 2 threads"]
    bandwidth = traffic(case).read / median(read)
    moved = traffic(case).least / median(single)
    book.note("reading by two threads", case, "numpy.dot", median(read), moved=traffic(case).read)
    book.note(
        "one thread, share of the read bandwidth of two",
        replace(case, threads=1),
        ours,
        median(single),
        moved / bandwidth,
    )
    saturated = moved >= SATURATED * bandwidth
    what = "two threads, times as fast as one" + (" (which saturates memory)" if saturated else "")
    book.note(what, case, ours, median(two), ratio(single, two), least=None if saturated else 1.6)
    book.close()


def threads_race(family, n, features, key, seconds):
    """In a child process: one thread and two of one kernel in turns, and reading by two; slices as JSON."""
    import numba

    case = Case(REGRESSIONS[family](), key.removesuffix(OUT).rpartition(".")[2], n, features=features)
    inputs = frozen(case.draw())
    call = called(case, key, inputs)

    def by(threads):
        numba.set_num_threads(threads)
        call()

    flat = inputs[1].ravel(order="K")
    halves = np.split(flat, [len(flat) // 2])
    # numpy.dot holds no lock, and BLAS has one thread here.
    with ThreadPoolExecutor(2) as pool:
        read = partial(lambda: list(pool.map(np.dot, halves, halves)))
        calls = {"1 thread": partial(by, 1), "2 threads": partial(by, 2), "read by 2 threads": read}
        print(json.dumps(taken_turns(calls, seconds, cores=2)))


FIRST = """
import time
import gradkernels as gk
kernel = {kernel.key: kernel for kernel in gk.kernels()}[%r]
inputs = gk.LinearRegression().draw(1000, 0, 10)
started = time.perf_counter()
kernel.backend.load()
loaded = time.perf_counter()
kernel.backend.wait(kernel.build(gk.LinearRegression())(*kernel.backend.put(inputs)))
print(time.perf_counter() - loaded, loaded - started)
"""


@pytest.mark.parametrize("quantity", ["gradient", "per_sample"])
def test_the_first_call_is_quick_once_the_disk_cache_is_warm(book, quantity):
    """Two fresh processes with one cache folder; the second finds what the first has compiled."""
    case = book.case(gk.LinearRegression(), quantity, 1000, 10)
    with tempfile.TemporaryDirectory() as folder:
        variables = {**child_environment(1), "NUMBA_CACHE_DIR": folder}
        (cold, _), (warm, load) = (map(float, child(FIRST % book.key(quantity), variables).split()) for _ in range(2))
    key = book.key(quantity)
    book.note("build and first call without a cache, seconds", case, key, cold, cold, moved=0)
    book.note("import of the library, seconds", case, key, load, load, moved=0)
    book.note("build and first call with a warm disk cache, seconds", case, key, warm, warm, most=0.5, moved=0)
    book.close()


def child(code, variables):
    """What a fresh process prints last."""
    here = str(Path(__file__).parent)
    started = perf_counter()
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"after {perf_counter() - started:.0f} s: {done.stderr}"
    return done.stdout.splitlines()[-1]
