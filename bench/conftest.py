"""What this process is for: timing, so JAX gets 64 bits and one thread before anything loads it."""

from gradkernels.bench.pytest_threads import switch_jax


def pytest_configure():
    switch_jax()
