"""A picture from its content: title, panels and notes set on a page that is as large as they need."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from matplotlib import rc_context, rcdefaults
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gradkernels.bench.report.colours import looks_of
from gradkernels.bench.report.pictures.bars import BarsForm
from gradkernels.bench.report.pictures.content import Panel, PictureContent
from gradkernels.bench.report.pictures.layout import INK, LINE, Box, Room, Sheet, folded_to_inches
from gradkernels.bench.report.pictures.lines import LinesForm

DPI = 150
MOST_PIXELS = 30_000
"""Of a side of a picture; viewers give up at some 32,000, matplotlib at 65,536."""

MARGIN, GUTTER, AFTER_ROW = 0.16, 0.3, 0.14
"""Inches around the page, between columns and after a row of panels."""

LEAST_WIDTH = 6.0
TITLE, SUBTITLE, NAME, FINDING, NOTE = 13.0, 9.0, 10.0, 9.0, 7.5
"""Sizes of letters in points."""


class Drawing(Figure):
    """A figure that a notebook shows as it is."""

    def _repr_png_(self) -> bytes:
        return figure_bytes(self, ".png")


class Form(Protocol):
    """How panels are drawn."""

    @property
    def room(self) -> Room:
        """The room that the panels need."""

    def draw(self, figure: Figure, box: Box, panel: Panel, first: bool) -> None:
        """Draw a panel.

        Args:
            figure: The page.
            box: Where its axes are.
            panel: What is in it.
            first: Whether it is in the first column.
        """


def formats() -> tuple[str, ...]:
    """Return the suffixes of the pictures that can be drawn."""
    return tuple(f".{name}" for name in sorted(FigureCanvasAgg.get_supported_filetypes()))


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """Return a figure as a file's content, in the format of `suffix` (one of `formats()`)."""
    content, name = io.BytesIO(), suffix.removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(name)
    with in_own_style():
        figure.savefig(
            content, format=name, dpi=min(DPI, MOST_PIXELS / max(figure.get_size_inches())), metadata=undated
        )
    return content.getvalue()


def draw(content: PictureContent, suffix: str) -> bytes:
    """Return a picture as a file's content, in the format of `suffix` (one of `formats()`)."""
    return figure_bytes(figure_of(content), suffix)


@contextmanager
def in_own_style() -> Iterator[None]:
    """Draw as it was laid out, whatever a person's style says; letters that the font lacks are boxes."""
    with rc_context(), warnings.catch_warnings():
        rcdefaults()
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def figure_of(content: PictureContent) -> Drawing:
    """Draw a picture."""
    with in_own_style():
        return _Page(content).figure()


def columns_for(panels: int) -> int:
    """Return how many panels stand beside each other: one or two, and more only where there are very many."""
    return min(panels, max(2, math.ceil(math.sqrt(panels / 2))))


class _Page:
    """The places of everything on a page, in inches.

    Args:
        content: What is shown.
    """

    def __init__(self, content: PictureContent) -> None:
        self._content = content
        self._columns = columns_for(len(content.panels))
        names = [one.name for panel in content.panels for one in panel.series]
        form = LinesForm if any(len(panel.sizes) > 1 for panel in content.panels) else BarsForm
        self._form: Form | None = form(content, looks_of(names)) if names else None
        self._room = self._form.room if self._form else Room(0, 0, 0, 0, 0, ())
        wide = self._room.left + (self._columns - 1) * self._pitch + self._room.width + self._room.right
        self._width = max(LEAST_WIDTH, wide + 2 * MARGIN)
        text = self._width - 2 * MARGIN
        self._title = folded_to_inches(content.title, TITLE, text, bold=True)
        self._subtitle = folded_to_inches(content.subtitle, SUBTITLE, text)
        self._notes = [line for note in content.notes for line in folded_to_inches(note, NOTE, text)]

    @property
    def _pitch(self) -> float:
        """Inches from a column of panels to the next."""
        return self._room.width + self._room.right + GUTTER + self._room.inner

    def figure(self) -> Drawing:
        """Draw everything."""
        rows = list(self._rows())
        above = MARGIN + _height(self._title, TITLE) + _height(self._subtitle, SUBTITLE) + 0.12
        below = _height(self._notes, NOTE) + MARGIN
        drawing = Drawing(figsize=(self._width, above + sum(map(self._row_height, rows)) + below))
        FigureCanvasAgg(drawing)
        sheet, top = Sheet(drawing), float(drawing.get_figheight())
        end = _write(sheet, MARGIN, top - MARGIN, self._title, TITLE, color="0.1", weight="bold")
        _write(sheet, MARGIN, end - 0.02, self._subtitle, SUBTITLE, color=INK)
        top -= above
        for row in rows:
            self._draw_row(sheet, top, row)
            top -= self._row_height(row)
        _write(sheet, MARGIN, top, self._notes, NOTE, color="0.4")
        return drawing

    def _rows(self) -> Iterator[list[int]]:
        count = len(self._content.panels)
        for first in range(0, count, max(1, self._columns)):
            yield list(range(first, min(first + self._columns, count)))

    def _row_height(self, row: Sequence[int]) -> float:
        return self._head(row) + max(self._room.heights[place] for place in row) + self._room.below + AFTER_ROW

    def _head(self, row: Sequence[int]) -> float:
        """Return how high the names and findings above the panels of a row are."""
        headings = [self._heading(place) for place in row]
        return max(_height(name, NAME) + _height(finding, FINDING) for name, finding in headings) + 0.08

    def _heading(self, place: int) -> tuple[list[str], list[str]]:
        """Return the name and the finding of a panel, folded."""
        panel, own = self._content.panels[place], self._beside(place) + self._room.width + self._room.right
        return folded_to_inches(panel.name, NAME, own, bold=True), folded_to_inches(panel.finding, FINDING, own)

    def _beside(self, place: int) -> float:
        return self._room.inner if place % self._columns else self._room.left

    def _draw_row(self, sheet: Sheet, top: float, row: Sequence[int]) -> None:
        assert self._form is not None
        for column, place in enumerate(row):
            left = MARGIN + self._room.left + column * self._pitch
            name, finding = self._heading(place)
            text = left - self._beside(place)
            end = _write(sheet, text, top, name, NAME, color="0.1", weight="bold")
            _write(sheet, text, end, finding, FINDING, color=INK)
            height = self._room.heights[place]
            box = Box(left, top - self._head(row) - height, self._room.width, height)
            self._form.draw(sheet.figure, box, self._content.panels[place], column == 0)


def _height(lines: Sequence[str], points: float) -> float:
    return len(lines) * points * LINE


def _write(sheet: Sheet, left: float, top: float, lines: Sequence[str], points: float, **style: str) -> float:
    """Write lines below each other, and return where the next would begin."""
    for number, line in enumerate(lines):
        sheet.text(left, top - (number + 0.5) * points * LINE, line, points, **style)
    return top - _height(lines, points)
