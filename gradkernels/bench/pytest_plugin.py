"""The pytest plugin: time proven kernels with pytest-benchmark, and write the rows that `gradkernels run` writes.

    def test_mine(gradkernels_benchmark):
        gradkernels_benchmark("numpy.broadcast.per_sample", gk.Case(gk.LinearRegression(), "per_sample", n=1000))

Every pytest session loads this module where gradkernels is installed, so it imports pytest and the standard
library only, and does nothing until a test asks for its fixture or a user for one of its options.
PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradkernels.bench.pytest_rows import Rows

FIXTURE = "gradkernels_benchmark"
_ROWS: pytest.StashKey[Rows] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options `--gradkernels-...`."""
    add = functools.partial(_add, parser.getgroup("gradkernels", "gradient kernels"))
    add("csv", metavar="PATH", type=Path, help="write one row per timed kernel, as `gradkernels run` does")
    add("csv-append", action="store_true", help="add the rows to an existing file, as its next pass")
    add("sizes", metavar="SIZES", parse=_sizes, default=(10, 1000, 100_000), help="of the suite: 10,1000 or 10:1e5")
    add("quantities", metavar="NAMES", parse=_quantities, default=("gradient", "per_sample"), help="a,b or all")
    add("problems", metavar="NAMES", parse=_problems, default=("linear",), help="a,b or all")
    add("features", metavar="NUMBERS", parse=_sizes, default=(1,), help="columns of x: 1,10")
    add("dtypes", metavar="NAMES", parse=_dtypes, default=("float64",), help="a,b or all")
    add("max-call", metavar="SECONDS", parse=_seconds, default=0.2, help="skip a Python loop whose call takes longer")
    add("prepare", action="store_true", help="64 bits for JAX, one thread for libraries that are not loaded yet")


def _add(group: Any, name: str, parse: Callable[[str], Any] | None = None, **settings: Any) -> None:
    if parse:
        default = settings["default"]
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        settings |= {"type": functools.partial(_said, parse), "help": f"{settings['help']}; default {shown}"}
    group.addoption(f"--gradkernels-{name}", **settings)


def _said(parse: Callable[[str], Any], text: str) -> Any:
    """`parse(text)`; argparse shows the sentence of its own kind of error only."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _sizes(text: str) -> tuple[int, ...]:
    from gradkernels.bench.parse import sizes

    return sizes(text)


def _seconds(text: str) -> float:
    from gradkernels.bench.parse import seconds

    return seconds(text, "time")


def _quantities(text: str) -> tuple[str, ...]:
    from gradkernels.bench.parse import chosen_quantities

    return tuple(chosen_quantities(text))


def _problems(text: str) -> tuple[str, ...]:
    from gradkernels.problems import REGRESSIONS

    return _picked(text, REGRESSIONS, "problem")


def _dtypes(text: str) -> tuple[str, ...]:
    from gradkernels.backend import FLOATS

    return _picked(text, FLOATS, "dtype")


def _picked(text: str, known: Iterable[str], kind: str) -> tuple[str, ...]:
    from gradkernels.bench.parse import names
    from gradkernels.names import pick

    table = {name: name for name in known}
    return tuple(table) if text == "all" else tuple(pick(table, name, kind) for name in names(text))


def pytest_configure(config: pytest.Config) -> None:
    """Switch what belongs to the whole process, if the user asked for it."""
    if config.getoption("gradkernels_prepare"):
        from gradkernels.bench.pytest_threads import prepare_process

        prepare_process()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse a results file that could not be written, before anything is timed."""
    config = session.config
    if (path := config.getoption("gradkernels_csv")) is None:
        return
    from gradkernels.bench.pytest_rows import start

    if reason := _no_times(config):
        raise pytest.UsageError(f"--gradkernels-csv writes times, and {reason}")
    try:
        config.stash[_ROWS] = start(config.invocation_params.dir / path, config.getoption("gradkernels_csv_append"))
    except (ValueError, OSError) as error:
        raise pytest.UsageError(f"--gradkernels-csv: {error}") from None


def _no_times(config: pytest.Config) -> str:
    """Why pytest-benchmark will take no times in this session; empty if it will."""
    option = config.getoption
    if not config.pluginmanager.hasplugin("benchmark"):
        return "pytest-benchmark is not installed or switched off: pip install pytest-benchmark"
    if option("benchmark_disable") and not option("benchmark_enable"):
        return "--benchmark-disable takes none: leave one of them out"
    if option("benchmark_skip") and not option("benchmark_only"):
        return "--benchmark-skip takes none: leave one of them out"
    if option("dist", "no") != "no":
        return "pytest-benchmark takes none in parallel: leave -n out"
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without pytest-benchmark, skip what needs it and say so."""
    if config.pluginmanager.hasplugin("benchmark"):
        return
    skip = pytest.mark.skip(reason=f"{FIXTURE}: {_no_times(config)}")
    for item in items:
        if FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(skip)


@pytest.fixture
def gradkernels_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., Any]:
    """`gradkernels_benchmark(kernel, case, out=False)`: prove, time, prove again on other data; gives the result.

    A kernel that cannot do the case skips the test with every reason; one that computes something else fails it
    and leaves no time behind. See `gradkernels.bench.pytest_timing.prove_and_time`.
    """
    from gradkernels.bench.pytest_rows import Rows
    from gradkernels.bench.pytest_timing import prove_and_time

    config = request.config
    rows = config.stash.setdefault(_ROWS, Rows())
    return functools.partial(prove_and_time, benchmark, rows, max_call=config.getoption("gradkernels_max_call"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was written where."""
    rows = config.stash.get(_ROWS, None)
    if rows and rows.path:
        terminalreporter.write_line(f"gradkernels: {rows.summary()}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no results file without a row, whatever became of the session."""
    if rows := config.stash.get(_ROWS, None):
        rows.finish()
