"""Rows of any test that pytest-benchmark times: what it asserts is the proof of what it calls."""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property
from typing import Any

import pytest

from gradkernels.bench.ab.benchmarks.items import BENCHMARK_FIXTURE, described_test, outcome, uses_benchmark
from gradkernels.bench.pytest_plugin.rows import SessionRows
from gradkernels.bench.results.functions import FUNCTION, benchmark_names, function_case, function_key
from gradkernels.bench.results.imports.pytest_benchmark import statistics
from gradkernels.bench.results.metadata import commit
from gradkernels.bench.timing.prepared_kernel import EXACT
from gradkernels.record import Measurement, Record, Status
from gradkernels.thread_variables import BLAS_VARIABLES, threads_by

OWN_FIXTURE = "gradkernels_benchmark"
"""Which adds the rows of kernels by itself."""


class FunctionRows:
    """A plugin for a session that keeps its rows: adds one for each test that uses the fixture `benchmark`.

    Args:
        rows: Of the session.
        config: Of the session.
    """

    def __init__(self, rows: SessionRows, config: pytest.Config) -> None:
        self._rows, self._root = rows, config.rootpath

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Time the control and the canary before and after a test."""
        if not _is_plain(item):
            return (yield)
        facts = self._facts_of(item)[1]
        self._rows.beside(facts)
        try:
            return (yield)
        finally:
            self._rows.beside(facts)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
        """Add the row of a test when it has run, or has failed before."""
        if _is_plain(item) and (call.when == "call" or (call.when == "setup" and call.excinfo)):
            self._add(item, call.excinfo.value if call.excinfo else None)
        return (yield)

    def _add(self, item: pytest.Item, fault: BaseException | None) -> None:
        key, facts = self._facts_of(item)
        stats = getattr(getattr(item, "funcargs", {}).get(BENCHMARK_FIXTURE), "stats", None)
        if (fault is None and stats is None) or not self._rows.first(key, facts["case"]):
            return
        if fault is None:
            measurement = Measurement(
                key, FUNCTION, Status.ok, error=EXACT.error, tolerance=EXACT.tolerance, **statistics(stats)
            )
        else:
            status, reason = outcome(fault)
            measurement = Measurement(key, FUNCTION, Status(status), reason)
        self._rows.add(Record(**facts, measurement=measurement))

    @cached_property
    def _facts(self) -> dict[str, Any]:
        # The code that is timed is the project's, and not gradkernels'.
        return {**self._rows.facts, "commit": commit(self._root), "parameters": 0, "seed": 0}

    def _facts_of(self, item: pytest.Item) -> tuple[str, dict[str, Any]]:
        """Return the key of a test, and what its record says before it has run."""
        one = described_test(item)
        name, function, n = benchmark_names(one.test, one.parameters, one.values)
        case = function_case(name, n, threads_by(BLAS_VARIABLES))
        return function_key(function), {**self._facts, "case": case, "pass_": self._rows.pass_}


def _is_plain(item: pytest.Item) -> bool:
    return uses_benchmark(item) and OWN_FIXTURE not in getattr(item, "fixturenames", ())
