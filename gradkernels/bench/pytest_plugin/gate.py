"""The gate of a pytest session: its rows against those of a base, by the code and the rules of `compare`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gradkernels.bench.compare.compare import compare
from gradkernels.bench.compare.exit_codes import Exit
from gradkernels.bench.compare.matching import pooled
from gradkernels.bench.compare.thresholds import Thresholds
from gradkernels.bench.compare.thresholds_toml import chosen
from gradkernels.bench.pytest_plugin.passes import fail
from gradkernels.bench.pytest_plugin.rows import SessionRows
from gradkernels.bench.report.comparison_table import table
from gradkernels.bench.report.comparison_text import summary_sentences
from gradkernels.bench.results.table import ResultsTable
from gradkernels.bench.stats.verdict import FEWEST_PASSES
from gradkernels.dispatch.machine import machine

SESSION_NAME = "this session"
MEANINGS = {
    Exit.done: "nothing fails",
    Exit.slower: "too slow",
    Exit.undecided: "undecided",
    Exit.unproven: "a proof failed",
    Exit.unmeasured: "contaminated, or nothing was measured in common",
    Exit.missing: "a kernel and case of the base is missing",
}
NOT_IN_TURNS = (
    "timed by pytest-benchmark, one kernel after the other and not in turns with the control, so only larger changes "
    "are found than by `gradkernels run` and `gradkernels ab`"
)


@dataclass(frozen=True)
class Gate:
    """What a session will be compared with, and how.

    Attributes:
        base: Rows of the base.
        name: The files that they are from.
        thresholds: What counts as a change, and which slowdown fails.
        fail_undecided: Whether a row that stays undecided fails.
        fail_missing: Whether a kernel and case of the base that the session lacks fails.
        force: Whether to compare across machines, dtypes, layouts, devices or threads.
    """

    base: ResultsTable
    name: str
    thresholds: Thresholds
    fail_undecided: bool
    fail_missing: bool
    force: bool


def gate_of(config: pytest.Config) -> Gate:
    """Return the gate that the options ask for.

    Raises:
        ValueError: The base or the thresholds cannot be read, or the base is of another machine.
        OSError: A file cannot be opened.
    """
    option = config.getoption
    base, name = pooled(option("gradkernels_compare"))
    force = option("gradkernels_force")
    if len(base) and not force and machine() not in base.machines:
        found = ", ".join(sorted(base.machines))
        raise ValueError(f"{name} was measured on {found}, and this is {machine()}; measure a base here, or force it")
    thresholds = chosen(
        option("gradkernels_thresholds"),
        config.invocation_params.dir,
        option("gradkernels_delta"),
        option("gradkernels_fail_slower"),
        "--gradkernels-",
    )
    undecided, missing = (option(f"gradkernels_fail_{name}") for name in ("undecided", "missing"))
    return Gate(base, name, thresholds, undecided, missing, force)


def judge(session: pytest.Session, gate: Gate, rows: SessionRows) -> list[str]:
    """Compare, set the session's exit status unless it has failed already, and return the lines to print.

    Args:
        session: That has run its tests.
        gate: What it is compared with.
        rows: What it has found out.
    """
    try:
        comparison = compare(gate.base, rows.records, gate.thresholds, gate.force, (gate.name, SESSION_NAME))
    except ValueError as error:
        fail(session, pytest.ExitCode.USAGE_ERROR)
        return [f"gradkernels: {error}"]
    code = comparison.exit_code(gate.fail_undecided, gate.fail_missing)
    fail(session, code)
    width = session.config.get_terminal_writer().fullwidth
    lines = [*table(comparison, width).splitlines(), "", *summary_sentences(comparison), NOT_IN_TURNS]
    if comparison.after.passes < FEWEST_PASSES:
        lines.append(
            f"a session is one pass and a verdict needs {FEWEST_PASSES}: --gradkernels-passes 8 repeats it in fresh "
            "processes"
        )
    return [*lines, f"gradkernels: code {int(code)}, {MEANINGS[code]}; exit status {int(session.exitstatus)}"]
