"""The end of a pytest session that keeps its rows: the passes that are left, then the comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gradkernels.bench.pytest_plugin.passes import fail, repeat
from gradkernels.bench.pytest_plugin.rows import SessionRows

if TYPE_CHECKING:  # it needs more libraries than writing rows does
    from gradkernels.bench.pytest_plugin.gate import Gate


def conclude(session: pytest.Session, rows: SessionRows, gate: Gate | None, tell: Callable[[str], None]) -> list[str]:
    """Time what passes are left, compare, and give the lines to print; may set the session's exit status.

    Args:
        session: That has run its tests.
        rows: What it has found out.
        gate: What it is compared with, if it is.
        tell: Called with a sentence before each further pass.
    """
    rows.end()
    option = session.config.getoption
    passes = 1 if option("gradkernels_child") else option("gradkernels_passes")
    lines = [_more(session, rows, passes, tell)] if passes > 1 and rows.records else []
    ended = session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
    if gate and not ended and not option("collectonly"):
        from gradkernels.bench.pytest_plugin.gate import judge

        lines += judge(session, gate, rows)
    return list(filter(None, lines))


def _more(session: pytest.Session, rows: SessionRows, passes: int, tell: Callable[[str], None]) -> str:
    if session.exitstatus != pytest.ExitCode.OK:
        return "gradkernels: the session failed, so it was not repeated for more passes"
    try:
        trouble = repeat(session.config, rows, passes, tell)
    except KeyboardInterrupt:
        session.exitstatus = pytest.ExitCode.INTERRUPTED
        return "gradkernels: stopped before all passes were timed"
    if trouble:
        fail(session, pytest.ExitCode.TESTS_FAILED)
    return trouble and f"gradkernels: {trouble}"
