"""A page in inches: how wide text is, where it is folded, how labels are pushed apart, and what goes where."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

LINE = 1.32 / 72
"""Inches from a line to the next, by the size of the letters in points."""

LABEL = 8.0
"""Size of the letters of names, ticks and values, in points."""

INK, PALE, RULE = "0.2", "0.55", "0.35"
"""Greys: of text, of what stays behind, and of dashed lines."""

_SLACK = 1.03
"""What is set on a grid of pixels may be a little wider than what is measured."""


@dataclass(frozen=True)
class Box:
    """A rectangle on the page, in inches from its lower left corner."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Room:
    """The room that panels of one form need, in inches.

    Attributes:
        left: Beside the axes of a panel in the first column, for what is written there.
        inner: The same in the other columns.
        width: Of the axes.
        right: Beside the axes on the other side.
        below: Under the axes.
        heights: Of the axes of each panel.
    """

    left: float
    inner: float
    width: float
    right: float
    below: float
    heights: tuple[float, ...]


@dataclass(frozen=True)
class Sheet:
    """A figure to which texts and lines are added by inches."""

    figure: Figure

    def axes(self, box: Box) -> Axes:
        """Add axes in a box."""
        across, up = self.figure.get_size_inches()
        return self.figure.add_axes((box.left / across, box.bottom / up, box.width / across, box.height / up))

    def text(self, x: float, y: float, text: str, points: float = LABEL, **style: Any) -> None:
        """Write a line of text.

        Args:
            x: Inches from the left.
            y: Inches from below.
            text: Taken as it is; a dollar begins no formula.
            points: Size of the letters.
            style: What matplotlib's Text takes.
        """
        across, up = self.figure.get_size_inches()
        given = {"color": INK, "va": "center", **style}
        self.figure.text(x / across, y / up, text, fontsize=points, parse_math=False, **given)

    def line(self, xs: Sequence[float], ys: Sequence[float], **style: Any) -> None:
        """Draw a line through points, wherever they are.

        Args:
            xs: Inches from the left.
            ys: Inches from below.
            style: What matplotlib's Line2D takes.
        """
        across, up = self.figure.get_size_inches()
        points = [x / across for x in xs], [y / up for y in ys]
        self.figure.add_artist(Line2D(*points, transform=self.figure.transFigure, **style))


@lru_cache(maxsize=4096)
def width(text: str, points: float = LABEL, bold: bool = False) -> float:
    """Return how wide a line of text is, in inches.

    Args:
        text: The line.
        points: Size of its letters.
        bold: Whether they are bold.
    """
    font = FontProperties(size=points, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72 * _SLACK


_WORDS = re.compile(r"(?<!\S)n = \S+|\S+")
"""What stays on one line: words, and a size with its name."""


def folded_to_inches(text: str, points: float, inches: float, bold: bool = False) -> list[str]:
    """Fold text between words so that no line is wider; a longer word is broken, and nothing is lost.

    Args:
        text: What is folded.
        points: Size of the letters.
        inches: Most that a line may take.
        bold: Whether the letters are bold.
    """
    lines: list[str] = []
    for word in _WORDS.findall(text):
        for piece in _pieces(word, points, inches, bold):
            if lines and width(f"{lines[-1]} {piece}", points, bold) <= inches:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
    return lines


def _pieces(word: str, points: float, inches: float, bold: bool) -> list[str]:
    if width(word, points, bold) <= inches:
        return [word]
    pieces = [""]
    for letter in word:
        if pieces[-1] and width(pieces[-1] + letter, points, bold) > inches:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def pushed_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least `gap` apart, within `low` to `high`, with the least sum of squared shifts.

    Labels that would overlap form a block around the mean of where they want to be (pool adjacent violators).
    Where there is no room for all, the gaps are equal and smaller.

    Args:
        wanted: Where each should be, in any order.
        gap: Least distance of two.
        low: The lowest position.
        high: The highest position.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    blocks: list[list[float]] = []  # of what is left of a position once the gaps before it are taken away
    for number, place in enumerate(order):
        blocks.append([wanted[place] - number * gap])
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    flat = [_mean(block) for block in blocks for _ in block]
    most = high - gap * (len(wanted) - 1)
    found = [0.0] * len(wanted)
    for number, (place, position) in enumerate(zip(order, flat, strict=True)):
        found[place] = min(max(position, low), most) + number * gap
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def that_fit(places: Sequence[float], texts: Sequence[str]) -> list[str]:
    """Return the labels, centred at ascending places, with empty ones for those that would touch; the last one stays.

    Args:
        places: In inches.
        texts: One for each place.
    """
    kept: list[str] = []
    free = math.inf
    for place, text in zip(reversed(places), reversed(texts), strict=True):
        half = width(text) / 2
        kept.append(text if place + half + 0.08 <= free else "")
        free = place - half if kept[-1] else free
    return kept[::-1]
