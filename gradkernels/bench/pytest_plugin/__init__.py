"""The pytest plugin: time proven kernels with pytest-benchmark, and write the rows that `gradkernels run` writes.

    def test_mine(gradkernels_benchmark):
        gradkernels_benchmark("numpy.broadcast.per_sample", gk.Case(gk.LinearRegression(), "per_sample", n=1000))

With a base to compare with, a session that passes ends with the exit status of `gradkernels compare`: 1 too slow (with
`--gradkernels-fail-slower`), 3 undecided (with `--gradkernels-fail-undecided`), 4 a proof failed, 5 contaminated or
nothing in common, 6 something is missing (with `--gradkernels-fail-missing`). A session that fails by itself keeps
pytest's own status: 1 tests failed, 2 interrupted, 3 internal error, 4 wrong usage, 5 no tests. The last line tells
which it was.

1. `options` are what a session is asked for, `threads` prepares its process;
2. `timing` proves a kernel, has pytest-benchmark time it and proves it again, with `controls` before and after;
3. `rows` collects what became of each, as records, and `functions` those of tests with the plain fixture `benchmark`;
   `finish` writes them when the session ends;
4. `passes` runs the same command again in fresh processes, and `gate` compares with the base.

Every pytest session loads this module where gradkernels is installed, so it imports pytest and the standard
library only, and does nothing until a test asks for its fixture or a user for one of its options.
PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradkernels.bench.pytest_plugin.options import leave_reports, pytest_addoption

if TYPE_CHECKING:
    from gradkernels.bench.pytest_plugin.gate import Gate
    from gradkernels.bench.pytest_plugin.rows import SessionRows

__all__ = ["pytest_addoption"]

FIXTURE = "gradkernels_benchmark"
_ROWS: pytest.StashKey[SessionRows] = pytest.StashKey()
_GATE: pytest.StashKey[Gate] = pytest.StashKey()
_LINES: pytest.StashKey[list[str]] = pytest.StashKey()
_OF_COMPARE = ("fail_slower", "fail_undecided", "fail_missing", "delta", "thresholds", "force")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Switch what belongs to the whole process, if the user asked for it."""
    if config.getoption("gradkernels_child"):
        leave_reports(config)
    if config.getoption("gradkernels_prepare"):
        from gradkernels.bench.pytest_plugin.threads import prepare_process

        prepare_process()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse what could not be written or compared, before anything is timed."""
    config, option = session.config, session.config.getoption
    path, base, child = option("gradkernels_csv"), option("gradkernels_compare"), option("gradkernels_child")
    if reason := _pointless(config):
        raise pytest.UsageError(reason)
    if not (path or base or child):
        return
    if reason := _no_times(config):
        raise pytest.UsageError(f"--gradkernels-{'csv writes' if path else 'compare needs'} times, and {reason}")
    if child:
        from gradkernels.bench.isolation.environment import die_with_parent

        die_with_parent()
    elif base:
        config.stash[_GATE] = _gate(config)
    rows = config.stash[_ROWS] = _rows(config, child or path, option("gradkernels_csv_append") and not child)
    _watch_functions(config, rows)


def _pointless(config: pytest.Config) -> str:
    """Return which option does nothing because another is missing; empty if none."""
    option = config.getoption
    if option("gradkernels_compare"):
        return ""
    for name in _OF_COMPARE:
        if option(f"gradkernels_{name}"):
            return f"--gradkernels-{name.replace('_', '-')} is about a comparison: add --gradkernels-compare BASE.csv"
    if option("gradkernels_passes") > 1 and not option("gradkernels_csv"):
        return "--gradkernels-passes is of use for --gradkernels-csv or --gradkernels-compare: add one of them"
    return ""


def _gate(config: pytest.Config) -> Gate:
    try:
        from gradkernels.bench.pytest_plugin.gate import gate_of

        return gate_of(config)
    except ModuleNotFoundError as error:
        raise pytest.UsageError(f"--gradkernels-compare needs {error.name}: pip install 'gradkernels[bench]'") from None
    except (ValueError, OSError) as error:
        raise pytest.UsageError(f"--gradkernels-compare: {error}") from None


def _rows(config: pytest.Config, path: Path | None, extend: bool) -> SessionRows:
    from gradkernels.bench.pytest_plugin.rows import SessionRows, start

    if path is None:
        return SessionRows(kept=True)
    try:
        return start(config.invocation_params.dir / path, extend)
    except (ValueError, OSError) as error:
        raise pytest.UsageError(f"--gradkernels-csv: {error}") from None


def _watch_functions(config: pytest.Config, rows: SessionRows) -> None:
    """Have every test with the fixture `benchmark` leave a row; where none are kept, that costs nothing."""
    from gradkernels.bench.pytest_plugin.functions import FunctionRows

    config.pluginmanager.register(FunctionRows(rows, config), "gradkernels-functions")


def _no_times(config: pytest.Config) -> str:
    """Return why pytest-benchmark will take no times in this session; empty if it will."""
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
    """Skip what needs pytest-benchmark where it is missing, and say so."""
    if config.pluginmanager.hasplugin("benchmark"):
        return
    skip = pytest.mark.skip(reason=f"{FIXTURE}: {_no_times(config)}")
    for item in items:
        if FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(skip)


@pytest.fixture
def gradkernels_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., Any]:
    """Prove, time, and prove again on other data: `gradkernels_benchmark(kernel, case, out=False)` gives the result.

    A kernel that cannot do the case skips the test with every reason; one that computes something else fails it
    and leaves no time behind. See `gradkernels.bench.pytest_plugin.timing.prove_and_time`.
    """
    from gradkernels.bench.pytest_plugin.rows import SessionRows
    from gradkernels.bench.pytest_plugin.timing import prove_and_time

    config = request.config
    rows = config.stash.setdefault(_ROWS, SessionRows())
    return functools.partial(prove_and_time, benchmark, rows, max_call=config.getoption("gradkernels_max_call"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Time what passes are left and compare; may change the exit status of a session that passed."""
    stash = session.config.stash
    rows = stash.get(_ROWS, None)
    if rows is None or not rows.kept:
        return
    from gradkernels.bench.pytest_plugin.finish import conclude

    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    tell = reporter.write_line if reporter else print
    stash[_LINES] = conclude(session, rows, stash.get(_GATE, None), tell)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was written where, and what the comparison found."""
    rows = config.stash.get(_ROWS, None)
    if rows and rows.path:
        terminalreporter.write_line(f"gradkernels: {rows.summary()}")
    if lines := config.stash.get(_LINES, None):
        terminalreporter.section("gradkernels")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no results file without a row, whatever became of the session."""
    if rows := config.stash.get(_ROWS, None):
        rows.finish()
