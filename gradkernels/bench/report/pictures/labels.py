"""Names at the ends of lines: beside the panel, none over another, each with a hair line that leads there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradkernels.bench.report.colours import Look
from gradkernels.bench.report.pictures.layout import INK, LABEL, PALE, RULE, Box, Sheet, pushed_apart, width

DASH: dict[str, Any] = {"solid": "-", "dash": (0, (5, 2)), "dot": (0, (1, 1.2)), "dashdot": (0, (6, 1.5, 1, 1.5))}
MARKER = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
}
RULE_STYLE: dict[str, Any] = {"color": RULE, "linestyle": (0, (4, 3)), "linewidth": 1.1}
"""Of dashed lines: limits, and the way that others are compared with."""

LINE_HEIGHT = LABEL * 1.28 / 72
"""Inches from a label to the next."""

_LEADER, _SWATCH, _GAP = 0.3, 0.26, 0.06
_HAIR: dict[str, Any] = {"color": "0.75", "linewidth": 0.6}
_NEAR = 0.25
"""A line that ends so near to the edge of its panel needs no dots that lead to the edge."""


@dataclass(frozen=True)
class Label:
    """A name beside a panel.

    Attributes:
        name: The name.
        x: Where its line ends, in inches.
        y: The same, from below.
        style: Of its line.
        leads: Whether its line is in colour.
    """

    name: str
    x: float
    y: float
    style: dict[str, Any]
    leads: bool = True


def style_of(look: Look, leads: bool) -> dict[str, Any]:
    """Return how matplotlib draws a way, or in grey one that stays behind."""
    marker = MARKER[look.marker]
    if not leads:
        return {"color": "0.78", "linewidth": 0.9, "marker": marker, "markersize": 2.5, "markeredgewidth": 0}
    size = 7.5 if marker == "*" else 5
    line = {"color": look.on_light, "linestyle": DASH[look.dash], "linewidth": 1.7}
    return {**line, "marker": marker, "markersize": size, "markeredgewidth": 0.8}


def room_for(names: Sequence[str]) -> float:
    """Return how many inches names take beside a panel."""
    return _LEADER + _SWATCH + _GAP + max(map(width, names)) + 0.04


def write_labels(sheet: Sheet, box: Box, labels: Sequence[Label]) -> None:
    """Write names beside a panel, each at the height where its line ends, or as near as others leave room.

    Args:
        sheet: The page.
        box: Where the panel's axes are.
        labels: What is written.
    """
    wanted = [min(max(one.y, box.bottom), box.bottom + box.height) for one in labels]
    heights = pushed_apart(wanted, LINE_HEIGHT, box.bottom + LINE_HEIGHT / 2, box.bottom + box.height - LINE_HEIGHT / 2)
    edge = box.left + box.width
    left, right = edge + _LEADER, edge + _LEADER + _SWATCH
    for label, end, height in zip(labels, wanted, heights, strict=True):
        far = edge - label.x > _NEAR
        if far:
            sheet.line((label.x + 0.06, edge), (end, end), linestyle=":", **_HAIR)
        sheet.line((edge if far else label.x + 0.05, left - 0.03), (end, height), **_HAIR)
        sheet.line((left, (left + right) / 2, right), (height,) * 3, markevery=[1], **label.style)
        sheet.text(right + _GAP, height, label.name, color=INK if label.leads else PALE)
