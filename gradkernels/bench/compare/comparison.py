"""What comparing two sets of results gives: a row per kernel and case, and what the rows say together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from gradkernels.bench.compare.canary import Canary
from gradkernels.bench.compare.exit_codes import Exit
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.bench.stats.verdict import VERDICTS
from gradkernels.coordinates import Coordinates
from gradkernels.record import CASE, Status

TOLD_APART = ("machine", "problem", "features", "dtype", "layout", "device", "threads")


@dataclass(frozen=True)
class Row:
    """One kernel and case of either side; `verdict` and what follows it are empty unless both sides were timed.

    Attributes:
        machine, case, kernel: What both sides have in common.
        status_before, status_after: `ok`, or what was wrong in some pass; empty if the file has no such row.
        reason: Why the status is not ok.
        passes_before, passes_after: Passes timed.
        seconds_before, seconds_after: Median over passes of the seconds per call, as measured.
        stopped: Whether every pass was timed before, and none after because it took too long.
        delta: Fraction that a change must exceed to count here.
        fail_slower: Slowdown, as a fraction, that fails here; None if none does.
        forced: Coordinates in which the sides differ, ignored by force.
        verdict: `slower`, `faster`, `same` or `undecided`; `contaminated` if the canary was flagged.
        ratio, low, high: After over before with one-sided bounds at the alpha of the look.
        normalised: Whether each pass was divided by its control; None where both sides took turns and need none.
        smallest_effect: Slowdown, as a fraction, that 95 of 100 such comparisons would call slower.
        passes_needed: Passes on each side that would settle it, if it is undecided; None if that is not known.
        p: One-sided p-value of a change by more than delta in the direction seen.
        p_suite: That p-value, adjusted for all rows by Holm's method.
        p_too_slow: One-sided p-value of a slowdown by more than fail_slower and delta, adjusted for all rows that
            have a limit by Holm's method.
        too_slow: Whether that is so for all rows at once: it fails the comparison.
        excluded: Whether a slowdown by more than fail_slower and delta is excluded.
    """

    machine: str
    case: Coordinates
    kernel: str
    status_before: str
    status_after: str
    reason: str
    passes_before: int
    passes_after: int
    seconds_before: float | None
    seconds_after: float | None
    stopped: bool
    delta: float | None = None
    fail_slower: float | None = None
    forced: str = ""
    verdict: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    normalised: bool | None = None
    smallest_effect: float | None = None
    passes_needed: int | None = None
    p: float | None = None
    p_suite: float | None = None
    p_too_slow: float | None = None
    too_slow: bool = False
    excluded: bool = False

    @property
    def timed(self) -> bool:
        """Whether both sides were timed, and what was found can be relied on."""
        return self.verdict in VERDICTS

    @property
    def open(self) -> bool:
        """Whether more passes are needed: to find or exclude a slowdown by its limit, or without one for a verdict."""
        if self.fail_slower is None:
            return self.verdict == "undecided"
        return self.timed and not (self.too_slow or self.excluded)

    def columns(self) -> dict[str, Any]:
        """Return all values by name, the coordinates of the case among them, in order."""
        values = vars(self)
        return {"machine": self.machine, **vars(self.case), **{name: values[name] for name in _AFTER_CASE}}


_AFTER_CASE = tuple(field.name for field in fields(Row) if field.name not in ("machine", "case"))
ROW_COLUMNS = ("machine", *CASE, *_AFTER_CASE)


@dataclass(frozen=True)
class Source:
    """Where one side comes from: the files' names, and what its rows say of their making."""

    name: str
    runs: tuple[str, ...]
    passes: int
    started: str
    commits: tuple[str, ...]
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """All rows of two sides, and what they say together.

    Attributes:
        before: The first side.
        after: The second.
        delta: The fraction that a change must exceed where nothing else is said.
        ignored: Coordinates in which the sides differ, ignored because the comparison was forced.
        rows: Every kernel and case of either side, in order of case and kernel.
        mean: Geometric mean of the ratios, with bounds; None if no row has a ratio, or a canary was flagged.
        canaries: What the canaries say of the measurements themselves; none if they were timed without.
        nothing: Why no row of one side has a counterpart in the other; empty if one has.
        unused: Overrides of the thresholds that match no row.
        over_machines: A row for each kernel and case that several machines have on both sides: the mean of the
            logarithms of their ratios, without times.
        with_itself: Rows of which every time is on both sides, so that their ratio says nothing of the code.
    """

    before: Source
    after: Source
    delta: float
    ignored: tuple[str, ...]
    rows: tuple[Row, ...]
    mean: Ratio | None
    canaries: tuple[Canary, ...] = ()
    nothing: str = ""
    unused: tuple[str, ...] = ()
    over_machines: tuple[Row, ...] = ()
    with_itself: int = 0

    @property
    def varying(self) -> tuple[str, ...]:
        """Coordinates beside n and the kernel in which rows differ, so that a row's name must give them."""
        return tuple(name for name in TOLD_APART if len({row.columns()[name] for row in self.rows}) > 1)

    @property
    def compared(self) -> tuple[Row, ...]:
        """Rows timed on both sides."""
        return tuple(row for row in self.rows if row.verdict)

    @property
    def changed(self) -> tuple[Row, ...]:
        """Rows of both sides whose status is not the same in both."""
        both = (row for row in self.rows if row.status_before and row.status_after)
        return tuple(row for row in both if row.status_before != row.status_after)

    @property
    def only_before(self) -> tuple[Row, ...]:
        """Rows that the second side lacks."""
        return tuple(row for row in self.rows if not row.status_after)

    @property
    def only_after(self) -> tuple[Row, ...]:
        """Rows that the first side lacks."""
        return tuple(row for row in self.rows if not row.status_before)

    @property
    def missing(self) -> tuple[Row, ...]:
        """Rows of the first side that the second lacks, or that were timed in the first and are unsupported there."""
        lost = (Status.ok, Status.unsupported)
        return tuple(row for row in self.rows if not row.status_after or (row.status_before, row.status_after) == lost)

    @property
    def judged(self) -> tuple[Row, ...]:
        """Every row, and those over machines."""
        return (*self.rows, *self.over_machines)

    @property
    def failures(self) -> tuple[Row, ...]:
        """Rows that fail the comparison whatever their speed: wrong on the second side, or ok in the first only."""
        return tuple(
            row
            for row in self.rows
            if row.status_after == Status.wrong or (row.status_before, row.status_after) == (Status.ok, Status.failed)
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each verdict."""
        return {name: sum(row.verdict == name for row in self.rows) for name in VERDICTS}

    @property
    def same_runs(self) -> bool:
        """Whether both sides are of the same runs."""
        return set(self.before.runs) == set(self.after.runs)

    @property
    def flagged(self) -> tuple[Canary, ...]:
        """Canaries that make every verdict `contaminated`."""
        return tuple(canary for canary in self.canaries if canary.flagged)

    @property
    def too_slow(self) -> tuple[Row, ...]:
        """Rows that are slower by more than their limit for all rows at once, or that have one and were stopped."""
        return tuple(row for row in self.judged if row.too_slow or (row.stopped and row.fail_slower is not None))

    def exit_code(self, fail_undecided: bool = False, fail_missing: bool = False) -> Exit:
        """Return the code: that of the first in this list that is so.

        A failed proof, a flagged canary, a slowdown, a missing row, nothing in common, a row that is open.

        Args:
            fail_undecided: Whether an open row fails.
            fail_missing: Whether a missing row does.
        """
        if self.failures:
            return Exit.unproven
        if self.flagged:
            return Exit.unmeasured
        if self.too_slow:
            return Exit.slower
        if fail_missing and self.missing:
            return Exit.missing
        if not self.compared:
            return Exit.unmeasured
        return Exit.undecided if fail_undecided and any(row.open for row in self.rows) else Exit.done
