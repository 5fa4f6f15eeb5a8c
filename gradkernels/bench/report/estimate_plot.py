"""The picture of `gradkernels estimate`: standard error and cosine against batch size, beside the theory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from gradkernels.bench.report.estimate_table import ParameterPoint
from gradkernels.bench.report.ranking_plot import COLORS
from gradkernels.names import counted

FORMATS = (".png", ".svg", ".pdf")
INCHES = (10.5, 4.6)
MARKERS = "os^D"
MOST_TICKS = 10
INK = "0.35"


def draw(points: Sequence[ParameterPoint], suffix: str) -> bytes:
    """Return the picture as a file's content, in the format of `suffix` (one of `FORMATS`)."""
    figure = Figure(figsize=INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True)
    for position, point in enumerate(points):
        look: dict[str, Any] = {
            "color": COLORS[position % len(COLORS)],
            "marker": MARKERS[position % len(MARKERS)],
            "markersize": 5,
        }
        _error(left, point, look)
        _cosine(right, point, look)
    _finish(left, points[0], "standard error of the mini-batch gradient, 95% interval")
    _finish(right, points[0], "mean cosine to the true gradient, 95% band")
    if any(batch.standard_error for point in points for batch in point.estimate.batches):
        _log_scale(left)
    _legend(figure, left)
    figure.suptitle(_title(points[0]), fontsize=11, x=0.01, ha="left")
    content = io.BytesIO()
    figure.savefig(content, format=suffix.removeprefix("."), dpi=160)
    return content.getvalue()


def _title(point: ParameterPoint) -> str:
    found = point.estimate
    rows = counted(found.n, "row")
    how = f"{counted(found.draws, 'mini-batch')} per size, drawn with{'' if found.replace else 'out'} replacement"
    return f"{point.data.name} ({rows}), {point.problem.name}: {how}"


def _error(axes: Axes, point: ParameterPoint, look: dict[str, Any]) -> None:
    """Draw measurements with intervals, theory as a line, and the gradient's length, above which noise drowns it."""
    found, color = point.estimate, look["color"]
    # All rows drawn without replacement have no error, which a log axis cannot show.
    shown = [batch for batch in found.batches if batch.standard_error > 0]
    sizes = [batch.size for batch in shown]
    middle = np.array([batch.standard_error for batch in shown])
    low, high = (np.array([getattr(b, f"standard_error_{end}") for b in shown]) for end in ("low", "high"))
    axes.errorbar(sizes, middle, (middle - low, high - middle), linestyle="", capsize=3, label=_name(point), **look)
    if shown:
        fine = np.unique(np.geomspace(sizes[0], sizes[-1], 200).round().astype(int))
        axes.plot(fine, [found.theory(int(size)) for size in fine], color=color, linewidth=1.2)
    if np.isfinite(found.noise_scale):
        axes.axhline(point.gradient_length, color=color, linestyle=":", linewidth=1.2)
    if found.batches[-1].standard_error == 0:
        axes.annotate(
            "no error",
            (found.batches[-1].size, 0.0),
            (0, 18),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-|>", "color": INK},
            color=INK,
            fontsize=8,
            ha="center",
            va="bottom",
            rotation=90,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _cosine(axes: Axes, point: ParameterPoint, look: dict[str, Any]) -> None:
    shown = [batch for batch in point.estimate.batches if np.isfinite(batch.cosine)]
    sizes = [batch.size for batch in shown]
    low, high = [batch.cosine_low for batch in shown], [batch.cosine_high for batch in shown]
    axes.fill_between(sizes, low, high, color=look["color"], alpha=0.2, linewidth=0)
    axes.plot(sizes, [batch.cosine for batch in shown], linewidth=1.2, **look)


def _finish(axes: Axes, point: ParameterPoint, what: str) -> None:
    sizes = [batch.size for batch in point.estimate.batches]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes[:: (1 - len(sizes)) // MOST_TICKS or -1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch size B", color=INK)
    axes.set_title(what, fontsize=10, loc="left", color=INK)
    axes.grid(which="major", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes) -> None:
    """Draw the legend below both panels, where it hides nothing; what a line style means is in grey."""
    handles, labels = axes.get_legend_handles_labels()
    handles += [Line2D([], [], color=INK, linestyle=style, linewidth=1.2) for style in ("-", ":")]
    labels += ["theory", "length of the true gradient"]
    figure.legend(handles, labels, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9)


def _name(point: ParameterPoint) -> str:
    return f"{point.name} (noise scale {point.estimate.noise_scale:.3g})"
