"""Tests of pytest as benchmarks: which they are, how they are called, and what became of one that raised something."""

from __future__ import annotations

import pytest

from gradkernels.bench.ab.messages import BenchmarkTest
from gradkernels.bench.isolation.errors import describe_fault

BENCHMARK_FIXTURE = "benchmark"


def uses_benchmark(item: pytest.Item) -> bool:
    """Tell whether a test uses the fixture of pytest-benchmark."""
    return BENCHMARK_FIXTURE in getattr(item, "fixturenames", ())


def described_test(item: pytest.Item) -> BenchmarkTest:
    """Return a test with its parameters."""
    call = getattr(item, "callspec", None)
    values = {} if call is None else call.params
    plain = {name: value if type(value) in (int, float, str) else repr(value) for name, value in values.items()}
    return BenchmarkTest(item.nodeid, "" if call is None else call.id, plain)


def outcome(fault: BaseException) -> tuple[str, str]:
    """Return the status of a test that raised something, and why."""
    if isinstance(fault, pytest.skip.Exception):
        return "unsupported", describe_fault(fault).partition(": ")[2] or "it is skipped"
    return "wrong" if isinstance(fault, AssertionError) else "failed", describe_fault(fault)
