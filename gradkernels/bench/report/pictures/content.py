"""What a picture shows, before anything is drawn: plain values, which tests and pages can read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PictureKind(StrEnum):
    """What a picture shows."""

    time = "time"
    speed = "speed"
    memory = "memory"
    limit = "limit"
    break_even = "break-even"
    estimate = "estimate"


@dataclass(frozen=True)
class Mark:
    """One value of a way.

    Attributes:
        n: Samples.
        value: In seconds, bytes or calls, or a ratio.
        low: Lower end of its interval over passes; None where nothing is known of it.
        high: Upper end.
        sure: False where the measurements do not show on which side of the baseline it is.
    """

    n: int
    value: float
    low: float | None = None
    high: float | None = None
    sure: bool = True


@dataclass(frozen=True)
class Series:
    """A way in one panel.

    Attributes:
        name: As the tables call it.
        marks: Ascending in n, at least one.
        leads: Whether it is drawn in its colour; others stay grey behind.
    """

    name: str
    marks: tuple[Mark, ...]
    leads: bool = True


@dataclass(frozen=True)
class Panel:
    """The ways of one table of winners.

    Attributes:
        name: What tells it from the other panels; empty where there are none.
        finding: What is found in it, in words.
        series: The best first.
        limit: What moving the data takes by n, where that is drawn.
    """

    name: str
    finding: str
    series: tuple[Series, ...]
    limit: tuple[Mark, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """The numbers of samples at which anything is shown, ascending."""
        return sorted({mark.n for one in self.series for mark in one.marks})


@dataclass(frozen=True)
class PictureContent:
    """A whole picture.

    Attributes:
        kind: What it shows.
        title: The finding.
        subtitle: What is drawn, and of what.
        panels: At least one, but for a run in which nothing was proven.
        notes: Sentences below the panels: what bands and lines are, and where it was measured.
        baseline: The way that values are relative to; empty where they are not.
    """

    kind: PictureKind
    title: str
    subtitle: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]
    baseline: str = ""
