"""What this process is for: timing, so JAX gets 64 bits and every pool one thread before a library loads."""

from pathlib import Path

from gradkernels.bench.pytest_threads import prepare_process


def pytest_addoption(parser):
    group = parser.getgroup("memory", "the speed of memory (test_memory_speed.py)")
    group.addoption("--memory-csv", metavar="PATH", type=Path, help="write the figures, one row each")
    group.addoption("--memory-quick", action="store_true", help="small sizes, and no limit is asserted")
    group.addoption("--memory-way", metavar="WAY", default="numba.fused", help="the way to measure; numba.fused")


def pytest_configure():
    prepare_process()
