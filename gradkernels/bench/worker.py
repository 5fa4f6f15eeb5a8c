"""A child process: one pass over the cases, in which every kernel is proven, timed and proven again.

It reads its orders as JSON from standard input and reports events as JSON lines on the pipe that was its standard
output; whatever kernels print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TextIO

import numpy as np

from gradkernels.bench import environment
from gradkernels.bench.entrants import CALLS, Contest, Outcome, libraries_of
from gradkernels.bench.peak import peak_bytes
from gradkernels.bench.plan import Plan
from gradkernels.case import Case
from gradkernels.kernel import Kernel

PROBE_SAMPLES = 1000
LEAST_RACE_SECONDS = 0.1
FAIR_SHARE = 0.3  # of a case's seconds, for one kernel


@dataclass(frozen=True)
class Orders:
    """What one child process has to do.

    Attributes:
        plan: The run.
        pass_: Number of the pass, from 1; 0 measures memory instead of time.
        deadline: On the system's monotonic clock, when the pass should be over.
        allowance: Seconds of the budget for one pass, the same for all: what is too slow in one is so in each.
        budget: As the person wrote it, for messages.
        done: `(index of case, kernel)` that need not be done (again).
    """

    plan: str
    pass_: int
    deadline: float
    allowance: float
    budget: str
    done: tuple[tuple[int, str], ...] = ()

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Orders:
        """What `dumps` wrote."""
        values = json.loads(text)
        return cls(**{**values, "done": tuple((index, kernel) for index, kernel in values["done"])})


def main() -> None:
    """Follow the orders on standard input."""
    environment.die_with_parent()
    reports = _private_output()
    orders = Orders.loads(sys.stdin.read())
    plan = Plan.loads(orders.plan)
    rng = np.random.default_rng([plan.seed, orders.pass_, time.time_ns()])
    pinned = environment.pin(plan.threads, rng)
    kernels = [kernel for case in plan.cases[:5] for kernel in plan.kernels_of(case)]
    if "torch" in libraries_of(kernels):
        environment.limit_torch(plan.threads)
    worker = Worker(orders, plan, reports, rng, pinned)
    for index, case in enumerate(plan.cases):
        worker.do(index, case)


class Worker:
    """Goes through the cases in ascending n, and knows from smaller sizes what a larger one will take."""

    def __init__(self, orders: Orders, plan: Plan, reports: TextIO, rng: np.random.Generator, pinned: str) -> None:
        self.orders = orders
        self.plan = plan
        self.reports = reports
        self.rng = rng
        self.pinned = pinned
        self.known: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def do(self, index: int, case: Case) -> None:
        """Everything about one case; reports an outcome for each kernel."""
        done = {kernel for i, kernel in self.orders.done if i == index}
        todo = [kernel for kernel in self.plan.kernels_of(case) if kernel.key not in done]
        if not todo:
            return
        gc.freeze()  # what the libraries have loaded is no garbage, and looking through it takes 0.3 s a time
        started, share = time.monotonic(), self._share(index)
        able = []
        for kernel in todo:
            if refusal := self._refusal(kernel, case):
                self._report(index, refusal)
            else:
                able.append(kernel)
        if self.orders.pass_ == 0:
            self._measure_memory(index, case, able)
        else:
            self._contest(index, case, able, started + share)

    def _contest(self, index: int, case: Case, able: list[Kernel], until: float) -> None:
        started = time.monotonic()
        inputs, fresh = self.plan.inputs(case), self.plan.inputs(case.fresh())
        contest = Contest(case, inputs, fresh, libraries_of(able), self.rng)
        for kernel in able:
            self._report(index, event="begin", kernel=kernel.key)
            outcome = contest.prepare(kernel)
            if outcome.status != "ok":
                self._report(index, outcome)
        self._report(index, event="race")
        now = time.monotonic()
        # The proofs after the race take about as long as those before it.
        for outcome in contest.race(max(until - now - (now - started), LEAST_RACE_SECONDS)):
            if outcome.seconds_median:
                self.known[outcome.kernel].append((case.n, outcome.seconds_median))
            self._report(index, replace(outcome, reason="; ".join(filter(None, (outcome.reason, self.pinned)))))

    def _share(self, index: int) -> float:
        """Seconds for a case: what is left of the pass, more of it for the larger sizes."""
        left = self.orders.deadline - time.monotonic()
        weights = [_weight(case) for case in self.plan.cases[index:]]
        return left * weights[0] / sum(weights)

    def _fair(self, case: Case) -> float:
        """Seconds that one kernel may take of a case in any pass."""
        total = sum(map(_weight, self.plan.cases))
        return FAIR_SHARE * self.orders.allowance * _weight(case) / total

    def _refusal(self, kernel: Kernel, case: Case) -> Outcome | None:
        blank = Outcome(kernel.key, kernel.backend.name, "unsupported")
        if reasons := kernel.unsupported(case):
            return replace(blank, reason="; ".join(reasons))
        self._probe(kernel, case)
        known = self.known[kernel.key]
        call = predicted(known, case.n, kernel.loops)
        fair = self._fair(case)
        if CALLS * call <= fair:
            return None
        n, seconds = known[-1]
        reason = (
            f"too slow for the budget: a call would take about {call:.2g} s ({seconds:.2g} s at n = {n}), and {CALLS} "
            f"calls do not fit the {fair:.2g} s that --budget {self.orders.budget} leaves one kernel per pass here"
        )
        return replace(blank, status="timeout", reason=reason)

    def _probe(self, kernel: Kernel, case: Case) -> None:
        """Time a Python loop over the first thousand samples, when no smaller size was measured."""
        if not kernel.loops or case.n <= PROBE_SAMPLES or self.known[kernel.key]:
            return
        arrays = [kernel.backend.put(array) for array in self.plan.inputs(replace(case, n=PROBE_SAMPLES))]
        compute = kernel.build(case.problem)
        started = time.perf_counter()
        kernel.backend.wait(compute(*arrays))
        self.known[kernel.key].append((PROBE_SAMPLES, time.perf_counter() - started))

    def _measure_memory(self, index: int, case: Case, able: list[Kernel]) -> None:
        inputs = self.plan.inputs(case)
        for kernel in able:
            self._report(index, event="begin", kernel=kernel.key)
            arrays = [kernel.backend.put(array, case.device) for array in inputs]
            try:
                compute = kernel.build(case.problem)
                call = partial(_waited, kernel, compute, arrays)
                call()  # what is loaded and compiled once is not part of a call's peak
                started = time.perf_counter()
                peak = peak_bytes(call)
                self.known[kernel.key].append((case.n, time.perf_counter() - started))
                self._report(index, event="peak", kernel=kernel.key, peak_bytes=peak)
            except Exception:  # the passes that follow will say what it is
                continue

    def _report(self, index: int, outcome: Outcome | None = None, **event: Any) -> None:
        values = {"event": "outcome", **outcome.values()} if outcome else event
        self.reports.write(json.dumps({"case": index, **values}) + "\n")
        self.reports.flush()


def _weight(case: Case) -> float:
    return 1 + math.log10(case.n)


def predicted(known: list[tuple[int, float]], n: int, loops: bool) -> float:
    """Seconds that a call will take at n, from `(n, seconds)` at smaller sizes; 0 when nothing can be said.

    A Python loop is proportional to n; anything else is a fixed cost plus one per sample, through the last two.
    """
    if not known:
        return 0.0
    last, seconds = known[-1]
    if loops:
        return seconds * n / last
    before, less = known[-2] if len(known) > 1 else (0, seconds)
    return seconds + max(0.0, seconds - less) / (last - before) * (n - last)


def _waited(kernel: Kernel, compute: Any, arrays: list[Any]) -> Any:
    return kernel.backend.wait(compute(*arrays))


def _private_output() -> TextIO:
    """The pipe to the parent; file descriptor 1 becomes standard error, so that prints do no harm."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


if __name__ == "__main__":
    main()
