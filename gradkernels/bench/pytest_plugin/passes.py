"""More passes of a pytest session: the same command again, each time in a fresh process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gradkernels.bench.pytest_plugin.rows import SessionRows
from gradkernels.record import Record, read

CHILD = "--gradkernels-child"
# Some versions of pytest-benchmark empty this file as soon as they read their arguments.
_FILE = "--benchmark-json"


def repeat(config: pytest.Config, rows: SessionRows, passes: int, tell: Callable[[str], None]) -> str:
    """Run the session's suite in fresh processes until it has so many passes.

    Args:
        config: Of the session, which is the first pass.
        rows: Where the rows go, numbered on from the session's own.
        passes: How many in all.
        tell: Called with a sentence before each.

    Returns:
        What went wrong with a pass, which is the last one then; empty if nothing did.
    """
    for number in range(2, passes + 1):
        tell(f"gradkernels: pass {number} of {passes}, in a fresh process")
        with tempfile.TemporaryDirectory(prefix="gradkernels-") as folder:
            path = Path(folder) / "pass.csv"
            code, last = _run(config, path)
            found = read(path) if path.exists() else []
        for row in found:
            rows.add(_numbered(row, rows, number))
        if code != pytest.ExitCode.OK:
            return f"pass {number} of {passes} ended with code {code}: {last}"
    return ""


def _numbered(row: Record, rows: SessionRows, number: int) -> Record:
    return replace(row, run=rows.facts["run"], pass_=rows.pass_ + number - 1)


def _run(config: pytest.Config, path: Path) -> tuple[int, str]:
    """Run a pass; return its exit code and the last line that it printed."""
    given = config.invocation_params
    command = [sys.executable, "-m", "pytest", f"{CHILD}={path}", *_without(list(map(str, given.args)), _FILE)]
    done = subprocess.run(
        command,
        cwd=given.dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    return done.returncode, (done.stdout.strip().splitlines() or ["it printed nothing"])[-1].strip("= ")


def _without(arguments: Sequence[str], option: str) -> list[str]:
    """Return the arguments without an option and its value."""
    kept = list(arguments)
    if option in kept:
        del kept[kept.index(option) : kept.index(option) + 2]
    return [argument for argument in kept if not argument.startswith(f"{option}=")]


def fail(session: pytest.Session, code: int) -> None:
    """Set the exit status; a session that has failed keeps its own."""
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = code
