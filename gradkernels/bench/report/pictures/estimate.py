"""The picture of `gradkernels estimate`: standard error and cosine against batch size, beside the theory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gradkernels.bench.report.colours import PALETTE
from gradkernels.bench.report.estimate_file import EstimatedPoint
from gradkernels.bench.report.pictures.draw import MARGIN, SUBTITLE, TITLE, Drawing, figure_bytes, in_own_style
from gradkernels.bench.report.pictures.layout import (
    INK,
    LABEL,
    LINE,
    RULE,
    Box,
    Sheet,
    folded_to_inches,
    that_fit,
    width,
)
from gradkernels.bench.report.pictures.lines import finish
from gradkernels.bench.report.pictures.units import count_text, log_ticks
from gradkernels.names import counted

FORMATS = (".png", ".svg", ".pdf")
FIGURE_WIDTH, AXES = 9.6, (4.0, 3.0)
"""Inches of the page, and of each of its two axes."""

MARKER_SHAPES = "os^DvPX*"


def draw_estimate(points: Sequence[EstimatedPoint], suffix: str) -> bytes:
    """Return the picture as a file's content, in the format of `suffix` (one of `FORMATS`)."""
    return figure_bytes(estimate_figure(points), suffix)


def estimate_figure(points: Sequence[EstimatedPoint]) -> Drawing:
    """Draw both panels: what was measured as marks with intervals, theory as lines."""
    with in_own_style():
        return _drawn_points(points)


def _drawn_points(points: Sequence[EstimatedPoint]) -> Drawing:
    text = FIGURE_WIDTH - 2 * MARGIN
    title, subtitle = (
        folded_to_inches(_finding(points), TITLE, text, bold=True),
        folded_to_inches(_about(points), SUBTITLE, text),
    )
    legend = _legend_rows(points, text)
    above = MARGIN + len(title) * TITLE * LINE + len(subtitle) * SUBTITLE * LINE + 0.4
    below = 0.5 + len(legend) * 0.19 + MARGIN
    drawing = Drawing(figsize=(FIGURE_WIDTH, above + AXES[1] + below))
    FigureCanvasAgg(drawing)
    sheet, top = Sheet(drawing), above + AXES[1] + below
    for number, line in enumerate(title):
        sheet.text(MARGIN, top - MARGIN - (number + 0.5) * TITLE * LINE, line, TITLE, color="0.1", weight="bold")
    top -= MARGIN + len(title) * TITLE * LINE + 0.02
    for number, line in enumerate(subtitle):
        sheet.text(MARGIN, top - (number + 0.5) * SUBTITLE * LINE, line, SUBTITLE)
    left = sheet.axes(Box(MARGIN + 0.5, below, *AXES))
    right = sheet.axes(Box(FIGURE_WIDTH - MARGIN - 0.1 - AXES[0], below, *AXES))
    for place, point in enumerate(points):
        _draw_error(left, point, _look(place))
        _draw_cosine(right, point, _look(place))
    for axes, heading in (
        (left, "standard error, 95% interval"),
        (right, "mean cosine to the true gradient, 95% band"),
    ):
        _finish(axes, points, heading)
    if any(batch.standard_error for point in points for batch in point.batches):
        _log_scale(left)
    _mark_exact(left, points)
    _write_legend(sheet, legend, below - 0.55)
    return drawing


def _look(place: int) -> dict[str, Any]:
    colours = [light for light, _ in PALETTE.values()]
    return {
        "color": colours[place % len(colours)],
        "marker": MARKER_SHAPES[place % len(MARKER_SHAPES)],
        "markersize": 5,
    }


def _finding(points: Sequence[EstimatedPoint]) -> str:
    pairs = [(point, batch) for point in points for batch in point.batches]
    inside = sum(batch.standard_error_low <= batch.theory <= batch.standard_error_high for _, batch in pairs)
    return (
        f"Theory lies in the interval of the measured standard error at {inside} of {counted(len(pairs), 'batch size')}"
    )


def _about(points: Sequence[EstimatedPoint]) -> str:
    what = "; ".join(dict.fromkeys(f"{one.data} ({counted(one.n, 'row')}), {one.problem}" for one in points))
    how = "; ".join(dict.fromkeys(map(_drawn, points)))
    return f"Mini-batch gradients as estimates of the true gradient: {what}; {how}"


def _drawn(point: EstimatedPoint) -> str:
    return f"{counted(point.draws, 'mini-batch')} per size, drawn with{'' if point.replace else 'out'} replacement"


def _draw_error(axes: Axes, point: EstimatedPoint, look: dict[str, Any]) -> None:
    """Draw measurements with intervals, theory as a line, and the gradient's length, above which noise drowns it."""
    # All rows drawn without replacement have no error, which a log axis cannot show.
    shown = [batch for batch in point.batches if batch.standard_error > 0]
    sizes = [batch.size for batch in shown]
    middle = np.array([batch.standard_error for batch in shown])
    low, high = (np.array([getattr(b, f"standard_error_{end}") for b in shown]) for end in ("low", "high"))
    axes.errorbar(sizes, middle, (middle - low, high - middle), linestyle="", capsize=3, **look)
    if shown:
        fine = np.unique(np.geomspace(sizes[0], sizes[-1], 200).round().astype(int))
        axes.plot(fine, [point.theory(int(size)) for size in fine], color=look["color"], linewidth=1.2)
    if np.isfinite(point.noise_scale):
        axes.axhline(point.gradient_length, color=look["color"], linestyle=":", linewidth=1.2)


def _draw_cosine(axes: Axes, point: EstimatedPoint, look: dict[str, Any]) -> None:
    shown = [batch for batch in point.batches if np.isfinite(batch.cosine)]
    sizes = [batch.size for batch in shown]
    low, high = [batch.cosine_low for batch in shown], [batch.cosine_high for batch in shown]
    axes.fill_between(sizes, low, high, color=look["color"], alpha=0.2, linewidth=0)
    axes.plot(sizes, [batch.cosine for batch in shown], linewidth=1.2, **look)


def _mark_exact(axes: Axes, points: Sequence[EstimatedPoint]) -> None:
    """Say where a batch of all rows has no error: nothing can be drawn there on a logarithmic axis."""
    for size in {batch.size for point in points for batch in point.batches if batch.standard_error == 0}:
        place, arrow = ("data", "axes fraction"), {"arrowstyle": "-|>", "color": INK}
        axes.annotate(
            "no error",
            (size, 0.0),
            (0, 18),
            xycoords=place,
            textcoords="offset points",
            arrowprops=arrow,
            color=INK,
            fontsize=LABEL,
            ha="center",
            va="bottom",
            rotation=90,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _finish(axes: Axes, points: Sequence[EstimatedPoint], heading: str) -> None:
    sizes = sorted({batch.size for point in points for batch in point.batches})
    ends = (sizes[0] / 1.3, sizes[-1] * 1.3)
    axes.set(xscale="log", xlim=ends)
    texts = [count_text(size) for size in sizes]
    spans = [AXES[0] * np.log(size / ends[0]) / np.log(ends[1] / ends[0]) for size in sizes]
    axes.set_xticks(sizes, labels=that_fit(spans, texts))
    finish(axes)
    axes.set_xlabel("batch size B", fontsize=LABEL, color=INK, labelpad=2)
    axes.set_title(heading, fontsize=SUBTITLE, loc="left", color=INK)
    axes.grid(which="major", color="0.92")


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    ticks = log_ticks(*axes.get_ylim())
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    finish(axes)


Entry = tuple[str, dict[str, Any]]


def _legend_rows(points: Sequence[EstimatedPoint], inches: float) -> list[list[Entry]]:
    """Return names with the style of their marks in rows that fit the page; what a line is, is in grey."""
    same = len({(one.data, one.problem) for one in points}) == 1
    names = [one.name if same else f"{one.data}, {one.problem}, {one.name}" for one in points]
    scales = [f"{name} (noise scale {one.noise_scale:.3g})" for name, one in zip(names, points, strict=True)]
    entries: list[Entry] = [(name, {**_look(place), "linestyle": ""}) for place, name in enumerate(scales)]
    entries += [("theory", {"color": RULE}), ("length of the true gradient", {"color": RULE, "linestyle": ":"})]
    rows: list[list[Entry]] = [[]]
    for entry in entries:
        if rows[-1] and sum(map(_entry_width, (*rows[-1], entry))) > inches:
            rows.append([])
        rows[-1].append(entry)
    return rows


def _entry_width(entry: Entry) -> float:
    return width(entry[0]) + 0.55


def _write_legend(sheet: Sheet, rows: Sequence[Sequence[Entry]], top: float) -> None:
    for number, row in enumerate(rows):
        left, height = MARGIN, top - (number + 0.5) * 0.19
        for entry in row:
            sheet.line((left, left + 0.13, left + 0.26), (height,) * 3, markevery=[1], linewidth=1.2, **entry[1])
            sheet.text(left + 0.32, height, entry[0])
            left += _entry_width(entry)
