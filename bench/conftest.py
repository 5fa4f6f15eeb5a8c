"""What this process is for: timing, so JAX gets 64 bits and every pool one thread before a library loads."""

from gradkernels.bench.pytest_threads import prepare_process


def pytest_configure():
    prepare_process()
