"""What this process is for: timing, so JAX gets 64 bits and every pool one thread before a library loads."""

from pathlib import Path

from gradkernels.bench.pytest_plugin.threads import prepare_process

STUDIES = ("test_audit.py", "test_choice.py", "test_files.py", "test_fixed_costs.py", "test_kept_memory.py",
           "test_laggards.py", "test_lengths.py", "test_loops.py", "test_memory_speed.py", "test_modules.py",
           "test_overhead.py", "test_real.py")  # fmt: skip
"""What takes minutes and is no comparison of kernels: collected only when named."""


def pytest_ignore_collect(collection_path, config):
    named = {Path(argument.partition("::")[0]).name for argument in config.args}
    return True if collection_path.name in STUDIES and collection_path.name not in named else None


def pytest_addoption(parser):
    group = parser.getgroup("loops", "training loops (test_loops.py)")
    group.addoption("--loops-csv", metavar="PATH", type=Path, help="write the figures, one row each")
    group = parser.getgroup("real", "real models (test_real.py)")
    group.addoption("--real-csv", metavar="PATH", type=Path, help="write the figures, one row each")
    group.addoption("--real-read", action="store_true", help="read that file instead of measuring")


def pytest_configure():
    prepare_process()
