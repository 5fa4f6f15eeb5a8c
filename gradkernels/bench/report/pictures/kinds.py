"""The axis of each kind of picture: what stands on it, in which unit, and which end of it is good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradkernels.bench.report.pictures.content import PictureKind
from gradkernels.bench.report.pictures.units import bytes_text, count_text, seconds_text, share_text, times_text
from gradkernels.bench.report.units import factor, seconds, share

LIMIT = "memory limit"
"""What the time that memory takes is called beside its line."""


@dataclass(frozen=True)
class Scale:
    """The axis of a kind.

    Attributes:
        heading: What is drawn, in words; `{baseline}` stands for the way that is compared with.
        text: A round value with its unit, for ticks.
        exact: A value as the tables print it.
        more_is_better: Whether the best value is the largest.
        relative: Whether values are ratios to a baseline.
        rule: The value at which a dashed line is drawn, if there is one.
        rule_name: What that line is called.
    """

    heading: str
    text: Callable[[float], str]
    exact: Callable[[float], str]
    more_is_better: bool = False
    relative: bool = False
    rule: float | None = None
    rule_name: str = ""


SCALES = {
    PictureKind.time: Scale("Time per call", seconds_text, seconds),
    PictureKind.speed: Scale(
        "Times as fast as {baseline}",
        times_text,
        lambda value: f"{factor(value)}×",
        more_is_better=True,
        relative=True,
        rule=1.0,
        rule_name="{baseline}",
    ),
    PictureKind.memory: Scale("Memory that building and calling takes", bytes_text, bytes_text),
    PictureKind.limit: Scale(
        "Speed as a share of the memory limit", share_text, share, more_is_better=True, rule=1.0, rule_name=LIMIT
    ),
    PictureKind.break_even: Scale(
        "Calls until it has overtaken {baseline}, building and first calls included",
        count_text,
        count_text,
        relative=True,
    ),
}
"""The axes of the pictures of a run; that of an estimate has two, of its own."""
