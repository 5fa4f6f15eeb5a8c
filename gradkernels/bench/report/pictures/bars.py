"""The form of pictures at one size: a bar per way, the best above, its value beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradkernels.bench.report.colours import Look
from gradkernels.bench.report.pictures.content import Panel, PictureContent, Series
from gradkernels.bench.report.pictures.kinds import LIMIT, SCALES, Scale
from gradkernels.bench.report.pictures.labels import RULE_STYLE
from gradkernels.bench.report.pictures.layout import INK, LABEL, PALE, Box, Room, Sheet, that_fit, width
from gradkernels.bench.report.pictures.lines import finish
from gradkernels.bench.report.pictures.units import linear_ticks, log_ticks

BAR_STEP = 0.2
"""Inches from a bar to the next."""

WIDE_BARS, NARROW_BARS = 3.6, 2.5
"""Inches of the axes of a single panel and of several."""

MOST_LINEAR = 30
"""Highest over lowest value up to which bars begin at zero; of more, the short ones could not be seen."""

_ABOVE, _BELOW = 0.75, 0.25
"""Bars' distances that are free above the middle of the first one and below that of the last."""


@dataclass(frozen=True)
class BarsForm:
    """How the panels of a picture are drawn as bars.

    Attributes:
        content: What is shown.
        looks: Of every way in it.
    """

    content: PictureContent
    looks: Mapping[str, Look]

    @property
    def scale(self) -> Scale:
        """What the value axis is."""
        return SCALES[self.content.kind]

    @property
    def _values(self) -> list[float]:
        return [value for panel in self.content.panels for _, value in self._rows(panel)]

    @property
    def _linear(self) -> bool:
        return max(self._values) <= MOST_LINEAR * min(self._values)

    @property
    def _ends(self) -> tuple[float, float]:
        """Ends of the value axis, which all panels share; an interval that says nothing does not stretch it."""
        low, high = min(self._values), max(self._values)
        marks = [one.marks[0] for panel in self.content.panels for one in panel.series]
        reach = min(max([high, *(mark.high for mark in marks if mark.high is not None)]), 2 * high)
        return (0.0, 1.03 * reach) if self._linear else (low / 2, 1.1 * reach)

    @property
    def _ticks(self) -> tuple[float, ...]:
        low, high = self._ends
        return linear_ticks(high) if self._linear else log_ticks(low, high)

    def _rule(self, panel: Panel) -> tuple[str, float] | None:
        """Return the name and the place of the dashed line of a panel."""
        if self.scale.rule is not None:
            return self.scale.rule_name.format(baseline=self.content.baseline), self.scale.rule
        return (LIMIT, panel.limit[0].value) if panel.limit else None

    def _rows(self, panel: Panel) -> list[tuple[str, float]]:
        """Return the name and value of each bar, and of the dashed line below them."""
        rows, rule = [(one.name, one.marks[0].value) for one in panel.series], self._rule(panel)
        return rows if rule is None else [*rows, rule]

    @property
    def room(self) -> Room:
        """The room that the panels need: names on the left, values on the right."""
        rows = [self._rows(panel) for panel in self.content.panels]
        names = max(width(name) for panel in rows for name, _ in panel) + 0.1
        values = max(width(self.scale.exact(value)) for panel in rows for _, value in panel) + 0.1
        return Room(
            left=names,
            inner=names,
            width=WIDE_BARS if len(rows) == 1 else NARROW_BARS,
            right=max(values, width(self.scale.text(self._ticks[-1])) / 2),
            below=0.26 if self._linear else 0.42,
            heights=tuple(BAR_STEP * (len(panel) - 1 + _ABOVE + _BELOW) for panel in rows),
        )

    def draw(self, figure: Figure, box: Box, panel: Panel, first: bool) -> None:
        """Draw a panel.

        Args:
            figure: The page.
            box: Where its axes are.
            panel: What is in it.
            first: Whether it is in the first column; names stand beside every panel.
        """
        sheet, rows = Sheet(figure), self._rows(panel)
        axes = sheet.axes(box)
        axes.set(xscale="linear" if self._linear else "log", xlim=self._ends, ylim=(len(rows) - 1 + _BELOW, -_ABOVE))
        self._prepare(axes, box)
        for place, series in enumerate(panel.series):
            self._draw_bar(axes, place, series)
        if (rule := self._rule(panel)) is not None:
            axes.plot([rule[1]] * 2, axes.get_ylim(), **RULE_STYLE)
        for place, (name, value) in enumerate(rows):
            height = box.bottom + box.height - BAR_STEP * (_ABOVE + place)
            sheet.text(box.left - 0.06, height, name, ha="right")
            sheet.text(box.left + box.width + 0.06, height, self.scale.exact(value))

    def _prepare(self, axes: Axes, box: Box) -> None:
        texts = [self.scale.text(tick) if tick else "0" for tick in self._ticks]
        axes.set_xticks(self._ticks, labels=that_fit([box.width * self._share(tick) for tick in self._ticks], texts))
        axes.set_yticks([])
        if not self._linear:
            axes.set_xlabel("logarithmic scale", fontsize=LABEL, color=PALE, labelpad=2)
        axes.grid(which="major", axis="x", color="0.92", linewidth=0.7)
        finish(axes)

    def _share(self, value: float) -> float:
        """Return where a value is between the ends of the axis, from 0 to 1."""
        low, high = self._ends
        return value / high if self._linear else math.log(value / low) / math.log(high / low)

    def _draw_bar(self, axes: Axes, place: int, series: Series) -> None:
        mark, colour, start = series.marks[0], self.looks[series.name].on_light, self._ends[0]
        face = colour if mark.sure else "white"
        axes.barh(place, mark.value - start, left=start, height=0.62, color=face, edgecolor=colour, linewidth=1)
        if mark.low is not None and mark.high is not None:
            axes.plot([max(mark.low, start), mark.high], [place] * 2, color=INK, linewidth=1, solid_capstyle="butt")
