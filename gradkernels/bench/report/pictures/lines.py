"""The form of pictures over several sizes: a line per way, its name at its end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from gradkernels.bench.report.colours import Look
from gradkernels.bench.report.pictures.content import Mark, Panel, PictureContent, Series
from gradkernels.bench.report.pictures.kinds import LIMIT, SCALES, Scale
from gradkernels.bench.report.pictures.labels import LINE_HEIGHT, RULE_STYLE, Label, room_for, style_of, write_labels
from gradkernels.bench.report.pictures.layout import INK, LABEL, PALE, Box, Room, Sheet, that_fit, width
from gradkernels.bench.report.pictures.units import count_text, log_ticks

LEAST_HEIGHT, WIDE, NARROW = 2.9, 4.4, 3.4
"""Inches of the axes: height; width of a single panel and of several."""

BAND_FACTOR = 3
"""An interval that reaches further than so many times beyond all values does not stretch the axis."""

LEAST_SPAN = 5.5
"""Highest over lowest of an axis: below, ticks at 1, 2 and 5 may all miss it."""

PAD = 0.04
"""Share of an axis that is left free at each end."""


@dataclass(frozen=True)
class Frame:
    """Axes with logarithmic scales in a box: from values to inches.

    Attributes:
        box: Where the axes are.
        sizes: Ends of the horizontal axis, in samples.
        values: Ends of the vertical one.
    """

    box: Box
    sizes: tuple[float, float]
    values: tuple[float, float]

    def x(self, n: float) -> float:
        """Return where so many samples are, in inches from the left."""
        return self.box.left + self.box.width * _share(n, *self.sizes)

    def y(self, value: float) -> float:
        """Return where a value is, in inches from below."""
        return self.box.bottom + self.box.height * _share(value, *self.values)


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


@dataclass(frozen=True)
class LinesForm:
    """How the panels of a picture are drawn as lines.

    Attributes:
        content: What is shown.
        looks: Of every way in it.
        values: Ends of the value axis, which all panels share.
    """

    content: PictureContent
    looks: Mapping[str, Look]
    values: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        """Find the range of values once."""
        object.__setattr__(self, "values", _value_range(self.content, self.scale))

    @property
    def scale(self) -> Scale:
        """What the value axis is."""
        return SCALES[self.content.kind]

    @property
    def room(self) -> Room:
        """The room that the panels need: ticks on the left, names on the right."""
        panels = self.content.panels
        names = [self._names(panel) for panel in panels]
        return Room(
            left=max(map(width, map(self.scale.text, log_ticks(*self.values)))) + 0.12,
            inner=0.06,
            width=WIDE if len(panels) == 1 else NARROW,
            right=room_for([name for own in names for name in own]),
            below=0.42,
            heights=(max(LEAST_HEIGHT, (max(map(len, names)) + 0.5) * LINE_HEIGHT),) * len(panels),
        )

    def _names(self, panel: Panel) -> list[str]:
        rules = [self._rule_name()] if self.scale.rule is not None else [LIMIT] if panel.limit else []
        return [*(one.name for one in panel.series), *rules]

    def _rule_name(self) -> str:
        return self.scale.rule_name.format(baseline=self.content.baseline)

    def draw(self, figure: Figure, box: Box, panel: Panel, first: bool) -> None:
        """Draw a panel.

        Args:
            figure: The page.
            box: Where its axes are.
            panel: What is in it.
            first: Whether it is in the first column, which has the ticks' labels.
        """
        frame = Frame(box, _size_range(panel.sizes), self.values)
        axes = Sheet(figure).axes(box)
        self._prepare(axes, frame, panel, first)
        for series in reversed(panel.series):
            _draw_series(axes, series, self.looks[series.name], panel.sizes)
        labels = [*self._rules(axes, frame, panel), *(self._label(frame, series) for series in panel.series)]
        write_labels(Sheet(figure), box, labels)

    def _prepare(self, axes: Axes, frame: Frame, panel: Panel, first: bool) -> None:
        axes.set(xscale="log", yscale="log", xlim=frame.sizes, ylim=frame.values)
        ticks = log_ticks(*self.values)
        axes.set_yticks(ticks, labels=list(map(self.scale.text, ticks)) if first else [""] * len(ticks))
        texts = list(map(count_text, panel.sizes))
        axes.set_xticks(panel.sizes, labels=that_fit(list(map(frame.x, panel.sizes)), texts))
        axes.set_xlabel("samples n", fontsize=LABEL, color=INK, labelpad=2)
        axes.grid(which="major", color="0.92", linewidth=0.7)
        finish(axes)

    def _rules(self, axes: Axes, frame: Frame, panel: Panel) -> Iterator[Label]:
        """Draw the dashed line, and yield its label."""
        if self.scale.rule is not None:
            axes.axhline(self.scale.rule, **RULE_STYLE)
            yield Label(self._rule_name(), frame.box.left + frame.box.width, frame.y(self.scale.rule), RULE_STYLE)
        elif panel.limit:
            axes.plot([mark.n for mark in panel.limit], [mark.value for mark in panel.limit], **RULE_STYLE)
            yield Label(LIMIT, frame.x(panel.limit[-1].n), frame.y(panel.limit[-1].value), RULE_STYLE)

    def _label(self, frame: Frame, series: Series) -> Label:
        last, style = series.marks[-1], style_of(self.looks[series.name], series.leads)
        return Label(series.name, frame.x(last.n), frame.y(last.value), style, series.leads)


def finish(axes: Axes) -> None:
    """Leave of the axes what is read: no frame, no ticks without a label."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=LABEL, labelcolor=INK, length=3, pad=2, color=PALE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)


def _draw_series(axes: Axes, series: Series, look: Look, sizes: Sequence[int]) -> None:
    """Draw a way: where it has no value at a size between others, its line has a gap."""
    style, depth = style_of(look, series.leads), 3 if series.leads else 2
    for run in _runs(series.marks, sizes):
        if series.leads:
            _draw_band(axes, run, look.on_light)
        axes.plot([mark.n for mark in run], [mark.value for mark in run], zorder=depth, **style)
    hollow = [mark for mark in series.marks if not mark.sure]
    if hollow and series.leads:
        white = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": look.on_light}
        ns, values = [mark.n for mark in hollow], [mark.value for mark in hollow]
        axes.plot(ns, values, zorder=depth + 0.5, **{**style, **white, "markeredgewidth": 1.2})


def _runs(marks: Sequence[Mark], sizes: Sequence[int]) -> Iterator[list[Mark]]:
    """Yield the marks that lie at sizes beside each other."""
    places = {n: place for place, n in enumerate(sizes)}
    for _, group in groupby(enumerate(marks), key=lambda pair: places[pair[1].n] - pair[0]):
        yield [mark for _, mark in group]


def _draw_band(axes: Axes, marks: Sequence[Mark], colour: str) -> None:
    known = [(mark.n, mark.low, mark.high) for mark in marks if mark.low is not None and mark.high is not None]
    if not known:
        return
    ns, lows, highs = zip(*known, strict=True)
    if len(known) == 1:
        axes.vlines(ns, lows, highs, color=colour, linewidth=1.2)
    else:
        axes.fill_between(ns, lows, highs, color=colour, alpha=0.16, linewidth=0)


def _size_range(sizes: list[int]) -> tuple[float, float]:
    low, high = sizes[0], sizes[-1]
    if low == high:
        return low / 2, high * 2.0
    pad = (high / low) ** PAD
    return low / pad, high * pad


def _value_range(content: PictureContent, scale: Scale) -> tuple[float, float]:
    """Return the ends of the axis; intervals and limits stretch it a little, but not beyond all that was found."""
    marks = [mark for panel in content.panels for one in panel.series for mark in one.marks]
    values = [mark.value for mark in marks] + ([] if scale.rule is None else [scale.rule])
    ends = [end for mark in marks for end in (mark.low, mark.high) if end is not None]
    ends += [mark.value for panel in content.panels for mark in panel.limit]
    low = max(min(values + ends), min(values) / BAND_FACTOR)
    high = min(max(values + ends), max(values) * BAND_FACTOR)
    pad = (high / low) ** PAD
    spread = max(1.0, LEAST_SPAN * low / high) ** 0.5
    return low / pad / spread, high * pad * spread
