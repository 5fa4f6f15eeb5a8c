"""The worker on one revision's benchmark tests: a pytest session that runs the next test when it is told to.

As the worker on kernels, it is this harness over a revision, and uses nothing of the library.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from gradkernels.bench.ab.benchmarks.fixture import replace_fixture
from gradkernels.bench.ab.benchmarks.items import described_test, outcome, uses_benchmark
from gradkernels.bench.ab.messages import (
    BenchmarksListed,
    ListBenchmarks,
    LoadBenchmarks,
    Loaded,
    Prepare,
    Prepared,
    Refused,
    SlicesTimed,
    TimeSlices,
)
from gradkernels.bench.ab.origin import require_origin
from gradkernels.bench.ab.turns import LONGEST_CALL, WARM_UP_SECONDS, Turns
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import explain_fault, last_line
from gradkernels.bench.isolation.worker_side import Connection
from gradkernels.bench.timing.slices import WARM_SLICES, TimedCall, warm_up

UNDISTORTED = {"pytest_cov": ("--no-cov",), "xdist": ("--dist", "no", "-n0")}
"""What a project's own options may ask for and times would tell: by plug-in, how it is switched off."""


def main(connection: Connection) -> None:
    """Follow the orders of a session."""
    if (order := connection.receive(ListBenchmarks, LoadBenchmarks)) is None:
        return
    os.chdir(order.project)
    if not (files := _files(order.tests)):
        connection.send(BenchmarksListed(()))
        return
    session = BenchmarkSession(connection, order)
    replace_fixture(session.timed)
    with TemporaryDirectory() as cache:  # the project's own is not written to, and may be asked for by its options
        code = pytest.main([*_arguments(cache), "--rootdir", order.project, *files], plugins=[session])
    if not session.begun:
        alone = f"pytest ended with code {int(code)}; run it alone to see why: pytest {' '.join(files)}"
        connection.send(Refused(session.trouble or alone))


def _arguments(cache: str) -> list[str]:
    """Return the options of the session, which come behind the project's own `addopts`."""
    off = [option for plugin, options in UNDISTORTED.items() if find_spec(plugin) for option in options]
    return ["-q", *off, "-o", f"cache_dir={cache}"]


def _files(tests: tuple[str, ...]) -> list[str]:
    """Return the files and folders of tests that this revision has."""
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return [file for file in files if Path(file).exists()]


class BenchmarkSession:
    """A plugin of pytest that runs tests by orders, and answers what became of each.

    Args:
        connection: With whom gives the orders.
        order: The first of them.
    """

    def __init__(self, connection: Connection, order: ListBenchmarks | LoadBenchmarks) -> None:
        self._connection = connection
        self._order = order
        self._next: Prepare | None = None  # an order that came while a test waited for another one
        self._reset()
        self.begun = False
        self.trouble = ""

    def _reset(self) -> None:
        """Know nothing of a test yet."""
        self._used = self._prepared = False
        self._slices: SlicesTimed | None = None
        self._fault: tuple[str, str] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the benchmarks also where a project leaves them out of its usual tests."""
        config.option.benchmark_skip = config.option.benchmark_disable = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember why a file could not be collected."""
        if report.failed and not self.trouble:
            self.trouble = f"{report.nodeid or 'the tests'} cannot be collected: {last_line(report.longreprtext)}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Follow the orders, instead of running all tests."""
        self.begun = True
        try:
            if self.trouble:
                raise ValueError(self.trouble)
            self._follow(self._order, list(_benchmarks(session.items, self._order.tests)))
        except (ValueError, ImportError) as fault:
            self._connection.send(Refused(explain_fault(fault)))
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
        """Note how a test failed, in whichever part of it first."""
        if call.excinfo and self._fault is None:
            self._fault = outcome(call.excinfo.value)
        return (yield)

    def timed(self, timed: TimedCall, make: Callable[[], Any]) -> Any:
        """Time a call in turns with the other side; return what a further call gives.

        Args:
            timed: What the fixture was called with.
            make: Makes one call.
        """
        if self._used:
            raise RuntimeError("the fixture benchmark can be used once in a test")
        self._used = True
        result = make()  # loads and compiles
        started = perf_counter()
        result = make()
        if (seconds := perf_counter() - started) > LONGEST_CALL:
            self._fault = "timeout", f"a call takes {seconds:.2g} s, more than {LONGEST_CALL:g} s"
            return result
        warm_up(timed, WARM_UP_SECONDS)
        seconds = min(timed.clock(timed.call, timed.iterations) for _ in range(WARM_SLICES))
        self._connection.send(Prepared("ok", seconds=seconds))
        self._prepared = True
        order = self._connection.receive(TimeSlices, Prepare)
        if not isinstance(order, TimeSlices):  # the other side cannot time it
            self._next = order
            return result
        self._slices = self._turns.time(order, timed, lambda: None)
        return make()

    def _follow(self, order: ListBenchmarks | LoadBenchmarks, items: list[pytest.Item]) -> None:
        require_origin(Path(order.root), some=False)
        if isinstance(order, ListBenchmarks):
            self._connection.send(BenchmarksListed(tuple(map(described_test, items))))
            return
        by_name = {item.nodeid: item for item in items}
        chosen = [by_name[test] for test in order.tests if test in by_name]
        self._turns, self._seed = Turns(order.wait_pipe, order.give_pipe), order.seed
        environment.pin_to(order.cores)
        self._connection.send(Loaded())
        after = dict(pairwise(chosen))
        while wanted := self._ordered():
            item = by_name[wanted.kernel]
            self._run(item, after.get(item))

    def _ordered(self) -> Prepare | None:
        """Return the next test to prepare; None when there are no more."""
        order, self._next = self._next or self._connection.receive(Prepare), None
        return order

    def _run(self, item: pytest.Item, following: pytest.Item | None) -> None:
        """Run a test and answer; fixtures that the following one shares stay."""
        self._reset()
        _seed(self._seed)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        require_origin(Path(self._order.root), some=False)  # a test imports as well
        status, reason = self._fault or ("ok", "")
        if not self._prepared:
            unused = ("failed", "it does not call its fixture benchmark")
            self._connection.send(Prepared(*(self._fault or unused)))
        elif self._slices is not None:
            self._connection.send(SlicesTimed(self._slices.seconds, status, reason))


def _benchmarks(items: list[pytest.Item], tests: tuple[str, ...]) -> Iterator[pytest.Item]:
    """Yield the items that use the fixture and are meant by one of the tests."""
    for item in items:
        meant = (item.nodeid == one or item.nodeid.startswith((f"{one}::", f"{one}[")) for one in tests)
        folders = (Path(one) in Path(item.nodeid.partition("::")[0]).parents for one in tests)
        if uses_benchmark(item) and (any(meant) or any(folders)):
            yield item


def _seed(seed: int) -> None:
    """Have both sides draw the same numbers."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  tests may draw by it
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
