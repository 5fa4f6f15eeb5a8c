"""What comparing two results files gives: a row per kernel and case, and what the rows say together."""

from __future__ import annotations

from dataclasses import dataclass

from gradkernels.bench.statistics import Ratio
from gradkernels.bench.verdict import VERDICTS

COORDINATES = ("machine", "problem", "features", "dtype", "layout", "device", "threads")


@dataclass(frozen=True)
class Row:
    """One kernel and case in both files; `verdict` and what follows it are empty unless both sides were timed.

    Attributes:
        machine, problem, quantity, n, features, dtype, layout, device, threads, kernel: The key.
        status_before, status_after: `ok`, or what was wrong in some pass; empty if the file has no such row.
        reason: Why the status is not ok.
        passes_before, passes_after: Passes timed.
        seconds_before, seconds_after: Median over passes of the seconds per call, as measured.
        stopped: Whether every pass was timed before, and none after because it took too long.
        verdict: `slower`, `faster`, `same` or `undecided`.
        ratio, low, high: After over before with one-sided bounds at the alpha of the look.
        normalised: Whether each pass was divided by its control.
        smallest_effect: Slowdown, as a fraction, that 95 of 100 such comparisons would call slower.
        passes_needed: Passes on each side that would settle it, if it is undecided; None if that is not known.
        p: One-sided p-value of a change by more than delta in the direction seen.
        p_suite: The same, adjusted for all rows by Holm's method.
    """

    machine: str
    problem: str
    quantity: str
    n: int
    features: int
    dtype: str
    layout: str
    device: str
    threads: int
    kernel: str
    status_before: str
    status_after: str
    reason: str
    passes_before: int
    passes_after: int
    seconds_before: float | None
    seconds_after: float | None
    stopped: bool
    verdict: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    normalised: bool | None = None
    smallest_effect: float | None = None
    passes_needed: int | None = None
    p: float | None = None
    p_suite: float | None = None


@dataclass(frozen=True)
class Source:
    """Where one side comes from: the file's name, and what its rows say of their making."""

    name: str
    runs: tuple[str, ...]
    passes: int
    started: str
    commits: tuple[str, ...]
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """All rows of two files, and what they say together.

    Attributes:
        before: The first file.
        after: The second.
        delta: The fraction that a change must exceed.
        ignored: Coordinates that differ between the files and were ignored because the comparison was forced.
        rows: Every kernel and case of either file, in order of case and kernel.
        mean: Geometric mean of the ratios, with bounds; None if no row has a ratio.
    """

    before: Source
    after: Source
    delta: float
    ignored: tuple[str, ...]
    rows: tuple[Row, ...]
    mean: Ratio | None

    @property
    def varying(self) -> tuple[str, ...]:
        """Coordinates beside n and the kernel in which rows differ, so that a row's name must give them."""
        return tuple(name for name in COORDINATES if len({getattr(row, name) for row in self.rows}) > 1)

    @property
    def compared(self) -> tuple[Row, ...]:
        """Rows timed on both sides."""
        return tuple(row for row in self.rows if row.verdict)

    @property
    def changed(self) -> tuple[Row, ...]:
        """Rows in both files whose status is not the same in both."""
        both = (row for row in self.rows if row.status_before and row.status_after)
        return tuple(row for row in both if row.status_before != row.status_after)

    @property
    def only_before(self) -> tuple[Row, ...]:
        """Rows that the second file lacks."""
        return tuple(row for row in self.rows if not row.status_after)

    @property
    def only_after(self) -> tuple[Row, ...]:
        """Rows that the first file lacks."""
        return tuple(row for row in self.rows if not row.status_before)

    @property
    def failures(self) -> tuple[Row, ...]:
        """Rows that fail the comparison whatever their speed: wrong in the second file, or ok in the first only."""
        return tuple(
            row
            for row in self.rows
            if row.status_after == "wrong" or (row.status_before, row.status_after) == ("ok", "failed")
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each verdict."""
        return {name: sum(row.verdict == name for row in self.rows) for name in VERDICTS}

    @property
    def same_runs(self) -> bool:
        """Whether both sides are the same measurements."""
        return set(self.before.runs) == set(self.after.runs)

    def slower_than(self, threshold: float) -> tuple[Row, ...]:
        """Rows whose verdict is slower and whose lower bound exceeds 1 + threshold, and those that were stopped."""
        return tuple(
            row for row in self.rows if row.stopped or (row.verdict == "slower" and (row.low or 0.0) > 1 + threshold)
        )
