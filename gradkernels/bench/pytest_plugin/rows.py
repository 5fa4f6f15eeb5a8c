"""The rows of one pytest session: what every kernel did on every case, and the file they go to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gradkernels.bench.pytest_plugin.controls import Yardsticks
from gradkernels.bench.results.metadata import case_facts, run_facts
from gradkernels.bench.results.results_file import ResultsFile
from gradkernels.case import Case
from gradkernels.coordinates import Coordinates
from gradkernels.names import counted
from gradkernels.record import HEADER, Record, append, has_current_columns, read


@dataclass(frozen=True)
class SessionRows:
    """What a session has found out so far.

    Attributes:
        path: The results file; None keeps the rows in memory only.
        pass_: Number of this session among the file's passes.
        records: The rows.
        asked: Kernels and cases that have, or will have, their row.
        kept: Whether the rows are for more than this session's tests: a file or a comparison.
        yardsticks: The control and the canary, timed beside the kernels if the rows are kept.
    """

    path: Path | None = None
    pass_: int = 1
    records: list[Record] = field(default_factory=list)
    asked: set[tuple[str, Case | Coordinates]] = field(default_factory=set)
    kept: bool = False
    yardsticks: Yardsticks = field(default_factory=Yardsticks)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What all rows of the session have in common."""
        return run_facts()

    def facts_of(self, case: Case) -> dict[str, Any]:
        """Return what a record says before anything has run."""
        return {**self.facts, **case_facts(case), "pass_": self.pass_}

    def add(self, record: Record) -> None:
        """Keep the row; in the file it is there at once, so that a killed session loses nothing before it."""
        self.records.append(record)
        if self.path:
            append(self.path, [record])

    def first(self, key: str, case: Case | Coordinates) -> bool:
        """Return whether nothing has been asked of the kernel on the case yet; a pass has one row of each."""
        known = self.kept and (key, case) in self.asked
        self.asked.add((key, case))
        return not known

    def beside(self, facts: dict[str, Any]) -> None:
        """Time the control and the canary now, just before or after a kernel whose record says these facts."""
        if self.kept:
            self.yardsticks.time(facts)

    def end(self) -> None:
        """Add the rows of the control and the canary, when no kernel is left to time."""
        for record in self.yardsticks.rows():
            self.add(record)
        self.yardsticks.timed.clear()

    def finish(self) -> None:
        """Remove a file that this session began and added nothing to."""
        if self.path and not self.records and self.pass_ == 1:
            self.path.unlink(missing_ok=True)

    def summary(self) -> str:
        """Return `36 rows in x.csv, pass 1: 34 ok, 2 unsupported`."""
        if not self.records:
            return f"nothing written to {self.path}: no test used benchmark or gradkernels_benchmark"
        counts = Counter(record.measurement.status for record in self.records)
        found = ", ".join(f"{count} {status}" for status, count in counts.items())
        last = max(record.pass_ for record in self.records)
        passes = f"pass {self.pass_}" if last == self.pass_ else f"passes {self.pass_} to {last}"
        return f"{counted(len(self.records), 'row')} in {self.path}, {passes}: {found}"


def start(path: Path, extend: bool) -> SessionRows:
    """Return rows that go to `path`: a new file, or the next pass of one that is there.

    Raises:
        ValueError: The file is there and `extend` is not set, it is not a results file, or has other columns.
        OSError: The file cannot be written.
    """
    if path.exists() and not extend:
        raise ValueError(
            f"{path} is there already; name another file, or add a pass to it with --gradkernels-csv-append"
        )
    if path.exists():
        found = read(path)
        _bring_up_to_date(path)
        if not has_current_columns(path):
            raise ValueError(f"{path} has other columns than are written now; name another file")
        rows = SessionRows(path, 1 + max((record.pass_ for record in found), default=0), kept=True)
        append(path, [])
        return rows
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER, encoding="utf-8", newline="")
    return SessionRows(path, kept=True)


def _bring_up_to_date(path: Path) -> None:
    """Give a file of an older schema the columns that are written now."""
    if has_current_columns(path):
        return
    with ResultsFile(path, "resume"):
        pass
    if not path.stat().st_size:  # it had no rows
        path.write_text(HEADER, encoding="utf-8", newline="")
