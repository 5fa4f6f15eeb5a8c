"""Two processes timed in turns on one core: a pass starts both afresh and interleaves slices of 200 microseconds.

A token goes through a pipe from one to the other, so that one runs while the other sleeps, and a slow spell of the
machine meets both. A block is ABBA or BAAB and gives the difference of log times; a pass gives the median over its
blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.ab.client import BENCHMARK_WORKER, KERNEL_WORKER, Side, WorkerClient, start_worker
from gradkernels.bench.ab.messages import (
    Load,
    LoadBenchmarks,
    Loaded,
    Prepare,
    Prepared,
    Setting,
    SlicesTimed,
    TimeSlices,
)
from gradkernels.bench.ab.turns import SLICES_PER_BLOCK
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.supervisor import Supervisor
from gradkernels.bench.timing.slices import orders
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.names import OptionValue, family_of, options_of
from gradkernels.record import Status

TURN_SECONDS = 200e-6
PASS_SECONDS = 0.25
LEAST_BLOCKS = 60
LONGEST_SLICE = 0.75
"""Of a pass of a slow kernel, which gets fewer blocks then."""

FEWEST_BLOCKS = 3

Sides = tuple[Side, Side]
WorkerPair = tuple[WorkerClient, WorkerClient]


@dataclass(frozen=True)
class Target:
    """What is compared.

    Attributes:
        kernel: Its key, the same on both sides.
        n: Samples.
        extra: Percent more calls in each slice of the second side: a slowdown that is exactly known.
        canary: Whether both sides are the first one.
        test: The benchmark test that it is, as pytest calls it; empty for a kernel.
        case: Of a test, under which it is recorded.
    """

    kernel: str
    n: int
    extra: int = 0
    canary: bool = False
    test: str = ""
    case: Coordinates | None = None

    @property
    def quantity(self) -> str:
        """What is computed."""
        return self.case.quantity if self.case else Key.parse(self.kernel).quantity


@dataclass(frozen=True)
class PairedSample:
    """What one pass says of one target: both sides, timed in turns.

    Attributes:
        statuses: Of each side: `ok`, or why it was not timed.
        reasons: The same in words.
        log: Median over blocks of log(second / first); NaN unless both are ok.
        seconds: Of a call on each side, median over slices.
    """

    statuses: tuple[str, str]
    reasons: tuple[str, str]
    log: float = math.nan
    seconds: tuple[float, float] = (math.nan, math.nan)

    @property
    def ok(self) -> bool:
        """Whether both sides were timed."""
        return self.statuses == (Status.ok, Status.ok)


def paired_pass(
    sides: Sides, targets: Sequence[Target], setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[tuple[Target, PairedSample]]:
    """Start both sides and time all targets in turns; a side that dies is started again for the targets left.

    Args:
        sides: First and second.
        targets: None of them a canary, or all.
        setting: Where they compute.
        inputs: Folder for what the first side draws and both compute on.
        rng: Draws cores, orders and the seeds of placements.

    Raises:
        ValueError: A side cannot be loaded, or was not loaded from its folder.
    """
    waiting = list(targets)
    while waiting:
        with _pair(sides, waiting, setting, inputs, rng) as workers:
            while waiting and all(one.alive for one in workers):
                target = waiting.pop(0)
                yield target, _sample(workers, target, rng)


@contextmanager
def _pair(
    sides: Sides, targets: Sequence[Target], setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[WorkerPair]:
    """Start a worker on each side, with a pipe for the token in either direction, and have both load."""
    program = BENCHMARK_WORKER if targets[0].test else KERNEL_WORKER
    (first_waits, second_gives), (second_waits, first_gives) = os.pipe(), os.pipe()
    pipes = ((first_waits, first_gives), (second_waits, second_gives))
    with Supervisor() as supervisor:
        try:
            first, second = (
                start_worker(supervisor, side, setting.threads, setting.device, ends, program)
                for side, ends in zip(sides, pipes, strict=True)
            )
        finally:
            for end in (*pipes[0], *pipes[1]):
                os.close(end)
        made: Any = _benchmark_orders if targets[0].test else _kernel_orders
        orders = made(sides, targets, setting, inputs, rng)
        for worker, order, ends in zip((first, second), orders, pipes, strict=True):
            worker.send(replace(order, wait_pipe=ends[0], give_pipe=ends[1]))
        for worker in (first, second):
            worker.require(Loaded)
        yield first, second


def _kernel_orders(
    sides: Sides, targets: Sequence[Target], setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[Load]:
    """Yield what each side is to load, without the pipes; places in memory are drawn for each."""
    name, options = named_problem(setting)
    libraries = tuple(libraries_of_keys(target.kernel for target in targets))
    cores = tuple(environment.draw_cores(setting.threads, rng))
    for side in sides:
        seed = int(rng.integers(2**32))
        yield Load(str(side.root), name, options, setting, libraries, cores, seed, -1, -1, str(inputs))


def _benchmark_orders(
    sides: Sides, targets: Sequence[Target], setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[LoadBenchmarks]:
    """Yield which tests each side is to collect, without the pipes; both draw the same numbers."""
    cores, seed = tuple(environment.draw_cores(setting.threads, rng)), int(rng.integers(2**32))
    for side in sides:
        tests = tuple(target.test for target in targets)
        yield LoadBenchmarks(str(side.root), str(side.project), tests, cores, seed, -1, -1)


def named_problem(setting: Setting) -> tuple[str, dict[str, OptionValue]]:
    """Return the regression's name and options, or the factory's name and none.

    Raises:
        ValueError: The options are not written as in `huber(delta=2)`.
    """
    if ":" in setting.problem:
        return setting.problem, {}
    options = {"fit_intercept": setting.fit_intercept, **options_of(setting.problem)}
    return family_of(setting.problem), options


def libraries_of_keys(keys: Iterator[str]) -> list[str]:
    """Return the names of the libraries that kernels with these keys compute with."""
    named = {Key.parse(key).backend for key in keys}
    return [name for name in BACKENDS if name in named]


def _sample(workers: WorkerPair, target: Target, rng: np.random.Generator) -> PairedSample:
    first, second = (_prepared(worker, target) for worker in workers)
    if (first.status, second.status) != (Status.ok, Status.ok):
        return PairedSample((first.status, second.status), (first.reason, second.reason))
    iterations = _iterations((first.seconds, second.seconds), target.extra)
    calls = (iterations, iterations * (100 + target.extra) // 100)
    order = _order(_blocks(SLICES_PER_BLOCK / 2 * (calls[0] * first.seconds + calls[1] * second.seconds)), rng)
    for position, (worker, count) in enumerate(zip(workers, calls, strict=True)):
        worker.send(TimeSlices(tuple(side == position for side in order), count))
    (status, reason, slices), (other_status, other_reason, other_slices) = map(_timed, workers)
    if (status, other_status) != (Status.ok, Status.ok):
        return PairedSample((status, other_status), (reason, other_reason))
    return _scored(slices, other_slices, iterations)


def _prepared(worker: WorkerClient, target: Target) -> Prepared:
    """Return the worker's answer, also when preparing the kernel was its death."""
    worker.send(Prepare(target.test or target.kernel, target.n))
    try:
        return worker.receive(Prepared)
    except WorkerDied as death:
        return Prepared(death.status, death.reason)


def _timed(worker: WorkerClient) -> tuple[str, str, tuple[float, ...]]:
    """Return status, reason and the seconds of each slice."""
    try:
        answer = worker.receive(SlicesTimed)
    except WorkerDied as death:
        return death.status, death.reason, ()
    return answer.status, answer.reason, answer.seconds


def _iterations(seconds: Sequence[float], extra: int) -> int:
    """Return the calls in a slice, the same on both sides; a multiple of what makes `extra` percent a whole number."""
    step = 100 // math.gcd(100, extra)
    return step * max(1, round(TURN_SECONDS / math.sqrt(seconds[0] * seconds[1]) / step))


def _blocks(block_seconds: float) -> int:
    wanted = max(LEAST_BLOCKS, int(PASS_SECONDS / block_seconds))
    return max(FEWEST_BLOCKS, min(wanted, int(LONGEST_SLICE / block_seconds)))


def _order(blocks: int, rng: np.random.Generator) -> list[int]:
    """Return which side each slice is of, 0 or 1: ABBA and BAAB at random."""
    pairs = orders(2, rng)
    return [one for _ in range(SLICES_PER_BLOCK // 2 * blocks) for one in next(pairs)]


def _scored(first: Sequence[float], second: Sequence[float], iterations: int) -> PairedSample:
    logs = [np.log(np.asarray(slices) / iterations) for slices in (first, second)]
    blocks = [log.reshape(-1, SLICES_PER_BLOCK // 2).mean(1) for log in logs]
    before, after = (float(np.exp(np.median(log))) for log in logs)
    return PairedSample((Status.ok, Status.ok), ("", ""), float(np.median(blocks[1] - blocks[0])), (before, after))
