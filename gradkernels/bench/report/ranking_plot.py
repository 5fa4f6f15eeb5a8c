"""The picture of a run: time per call against the number of samples, log-log, one line per way."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from gradkernels.key import Key
from gradkernels.names import counted
from gradkernels.record import Record, Status

# Okabe & Ito (2008): told apart by people who see colours differently.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":")
INCHES = (5.6, 4.6)


def draw(records: Iterable[Record], suffix: str) -> bytes:
    """Return the picture as a file's content, in the format of `suffix` (one of `formats()`)."""
    content = io.BytesIO()
    picture_of(records).savefig(content, format=suffix.removeprefix("."), dpi=150)
    return content.getvalue()


def picture_of(records: Iterable[Record]) -> Figure:
    """Return the picture: a panel per quantity; the band around a line is the middle half of its slices."""
    rows = [row for row in records if row.measurement.status == Status.ok and Key.parse(row.kernel).competes]
    panels = [(what, list(group)) for what, group in groupby(sorted(rows, key=_panel), key=_panel)]
    ways = sorted({_way(row.kernel) for row in rows})
    figure = Figure(figsize=(INCHES[0] * max(1, len(panels)), INCHES[1]), layout="constrained")
    FigureCanvasAgg(figure)
    for position, (what, group) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), position + 1)
        _panel_of(axes, what, group, ways)
    if rows:
        row = rows[0]
        figure.suptitle(f"{row.cpu}, {counted(row.case.threads, 'thread')}, {row.versions}", fontsize=8)
        lines = {str(line.get_label()): line for axes in figure.axes for line in axes.get_lines()}
        figure.legend(list(lines.values()), list(lines), loc="outside right center", frameon=False)
    return figure


def formats() -> tuple[str, ...]:
    """Return the suffixes of the pictures that can be drawn."""
    return tuple(f".{name}" for name in sorted(FigureCanvasAgg.get_supported_filetypes()))


def _panel(row: Record) -> str:
    case = row.case
    return f"{case.quantity} of {case.problem}, {counted(case.features, 'feature')}, {case.dtype}"


def _size(row: Record) -> int:
    return row.case.n


def _way(kernel: str) -> str:
    return Key.parse(kernel).plain_way


def style_of(index: int) -> dict[str, Any]:
    """Return the style of a line that looks like no other: colours come again with other dashes and markers."""
    turn, place = divmod(index, len(COLORS))
    marker = MARKERS[(place + turn) % len(MARKERS)]
    return {"color": COLORS[place], "marker": marker, "linestyle": DASHES[turn % len(DASHES)]}


def _panel_of(axes: Axes, what: str, rows: Sequence[Record], ways: Sequence[str]) -> None:
    for kernel, group in groupby(sorted(rows, key=lambda row: row.kernel), key=lambda row: row.kernel):
        by_size = {n: list(same) for n, same in groupby(sorted(group, key=_size), key=_size)}
        style = style_of(ways.index(_way(kernel)))
        low, middle, high = (
            [median(getattr(row.measurement, column) for row in same) for same in by_size.values()]
            for column in ("seconds_q25", "seconds_median", "seconds_q75")
        )
        axes.fill_between(list(by_size), low, high, color=style["color"], alpha=0.2, linewidth=0)
        axes.plot(list(by_size), middle, **style, markersize=4, linewidth=1.5, label=_way(kernel))
    axes.set(xscale="log", yscale="log", xlabel="samples n", title=what, ylabel="time per call")
    axes.title.set_fontsize(10)
    _label(axes.xaxis, "")
    _label(axes.yaxis, "s")
    axes.grid(which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _label(axis: Axis, unit: str) -> None:
    """Label powers of ten with prefixes, and what lies between where a decade is not full.

    Powers as matplotlib sets them by itself are formulas, which take as long as the rest of the picture.
    """
    low, high = axis.get_view_interval()
    axis.set_major_formatter(EngFormatter(unit, places=0))
    axis.set_minor_formatter(EngFormatter(unit, places=0) if high < 10 * low else NullFormatter())
