"""The duel of two processes on one core: a pass starts both afresh and lets them take turns of 200 microseconds.

Each turn is handed over by a token through a pipe between the two, so that one runs while the other sleeps, and a
slow spell of the machine meets both. A block is ABBA or BAAB and gives the difference of log times; a pass gives
the median over its blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.ab.client import Side, WorkerClient, worker_on
from gradkernels.bench.ab.worker import BLOCK, Reply
from gradkernels.bench.isolation import environment
from gradkernels.bench.run.supervisor import WorkerDied
from gradkernels.bench.timing.slices import orders
from gradkernels.key import Key

SLICE_SECONDS = 200e-6
PASS_SECONDS = 0.25
LEAST_BLOCKS = 60
MOST_SECONDS = 0.75
"""Of a pass of a slow kernel, which gets fewer blocks then."""

FEWEST_BLOCKS = 3

Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Setting:
    """Where the kernels of a session compute: the coordinates of a Case that its duels share.

    Attributes:
        problem: Name of a regression, or `package.module:factory`, looked up in each revision.
        fit_intercept: For regressions.
        features, dtype, layout, device, threads, seed: As in a Case.
    """

    problem: str = "linear"
    fit_intercept: bool = True
    features: int = 1
    dtype: str = "float64"
    layout: str = "C"
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Target:
    """What is duelled over.

    Attributes:
        kernel: Its key, the same on both sides.
        n: Samples.
        extra: Percent more calls in each slice of the second side: a slowdown that is exactly known.
        canary: Whether both sides are the first one.
    """

    kernel: str
    n: int
    extra: int = 0
    canary: bool = False

    @property
    def quantity(self) -> str:
        """What the kernel computes."""
        return Key.parse(self.kernel).quantity


@dataclass(frozen=True)
class PairedSample:
    """What one pass says of one job.

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
        return self.statuses == ("ok", "ok")


def one_pass(
    sides: Sides, jobs: Sequence[Target], setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[tuple[Target, PairedSample]]:
    """Start both sides and let them duel over all jobs; a side that dies is started again for the jobs left.

    Args:
        sides: First and second.
        jobs: None of them a canary, or all.
        setting: Where they compute.
        inputs: Folder for what the first side draws and both compute on.
        rng: Draws cores, orders and the seeds of placements.

    Raises:
        ValueError: A side cannot be loaded, or was not loaded from its folder.
    """
    waiting = list(jobs)
    while waiting:
        with _pair(sides, waiting, setting, inputs, rng) as players:
            while waiting and all(one.alive for one in players):
                job = waiting.pop(0)
                yield job, _bout(players, job, rng)


@contextmanager
def _pair(
    sides: Sides, jobs: Sequence[Target], setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[tuple[WorkerClient, WorkerClient]]:
    orders: dict[str, Any] = {
        "setting": asdict(setting),
        "libraries": libraries_of(job.kernel for job in jobs),
        "cores": environment.draw_cores(setting.threads, rng),
        "inputs": str(inputs),
    }
    (a_waits, b_gives), (b_waits, a_gives) = os.pipe(), os.pipe()
    pipes = ((a_waits, a_gives), (b_waits, b_gives))
    with ExitStack() as stack:
        try:
            one, two = (
                stack.enter_context(worker_on(side, setting.threads, ends))
                for side, ends in zip(sides, pipes, strict=True)
            )
        finally:
            for end in (*pipes[0], *pipes[1]):
                os.close(end)
        for one_of_both, ends in zip((one, two), pipes, strict=True):
            one_of_both.send("enter", root=str(one_of_both.side.root), pipes=ends, seed=_seed(rng), **orders)
        for one_of_both in (one, two):
            one_of_both.loaded()
        yield one, two


def libraries_of(keys: Iterator[str]) -> list[str]:
    """Names of the libraries that kernels with these keys compute with."""
    named = {Key.parse(key).backend for key in keys}
    return [name for name in BACKENDS if name in named]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


def _bout(players: tuple[WorkerClient, WorkerClient], job: Target, rng: np.random.Generator) -> PairedSample:
    answers = [_asked(one, "prepare", kernel=job.kernel, n=job.n) for one in players]
    if all(answer["status"] == "ok" for answer in answers):
        iterations = _iterations([answer["seconds"] for answer in answers], job.extra)
        calls = (iterations, iterations * (100 + job.extra) // 100)
        seconds = sum(count * answer["seconds"] for count, answer in zip(calls, answers, strict=True))
        turns = _turns(_blocks(BLOCK / 2 * seconds), rng)
        for position, (one, count) in enumerate(zip(players, calls, strict=True)):
            one.send("duel", mine=[turn == position for turn in turns], calls=count)
        answers = [_heard(one) for one in players]
    statuses = answers[0]["status"], answers[1]["status"]
    reasons = answers[0].get("reason", ""), answers[1].get("reason", "")
    if statuses != ("ok", "ok"):
        return PairedSample(statuses, reasons)
    return _scored(answers[0]["slices"], answers[1]["slices"], iterations)


def _asked(one: WorkerClient, do: str, **orders: Any) -> Reply:
    one.send(do, **orders)
    return _heard(one)


def _heard(one: WorkerClient) -> Reply:
    """A reply with a status, whatever became of the worker_on."""
    try:
        reply = one.receive()
    except WorkerDied as end:
        return {"status": end.status, "reason": end.reason}
    if "error" in reply:
        one.alive = False
        return {"status": "failed", "reason": reply["error"]}
    return {"status": "ok", **reply}


def _iterations(seconds: Sequence[float], extra: int) -> int:
    """Calls in a slice, the same on both sides; a multiple of what makes `extra` percent a whole number."""
    step = 100 // math.gcd(100, extra)
    return step * max(1, round(SLICE_SECONDS / math.sqrt(seconds[0] * seconds[1]) / step))


def _blocks(block_seconds: float) -> int:
    wanted = max(LEAST_BLOCKS, int(PASS_SECONDS / block_seconds))
    return max(FEWEST_BLOCKS, min(wanted, int(MOST_SECONDS / block_seconds)))


def _turns(blocks: int, rng: np.random.Generator) -> list[int]:
    """Whose turn it is, 0 or 1, slice by slice: ABBA and BAAB at random."""
    pairs = orders(2, rng)
    return [one for _ in range(BLOCK // 2 * blocks) for one in next(pairs)]


def _scored(first: Sequence[float], second: Sequence[float], iterations: int) -> PairedSample:
    logs = [np.log(np.asarray(slices) / iterations) for slices in (first, second)]
    blocks = [log.reshape(-1, BLOCK // 2).mean(1) for log in logs]
    before, after = (float(np.exp(np.median(log))) for log in logs)
    return PairedSample(("ok", "ok"), ("", ""), float(np.median(blocks[1] - blocks[0])), (before, after))
