"""What `gradkernels estimate` prints: the identities apart from the statistical claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from gradkernels.bench.report.estimate_table import ParameterPoint
from gradkernels.bench.report.terminal.columns import Column, markdown_table, print_panels
from gradkernels.bench.report.terminal.consoles import say
from gradkernels.bench.report.terminal.styles import TITLE_STYLE, WINNER, WRONG_STYLE
from gradkernels.estimate.minibatch import MinibatchStatistics
from gradkernels.estimate.study import GRADIENT_KERNELS, GradientStudy
from gradkernels.key import Key
from gradkernels.names import counted

MOST_PARAMETERS = 20
CLAIMS = ("B", "bias", "by\nchance", "standard error\n[95% interval]", "theory", "cosine\n[95% interval]")
SUSPICIOUS = 3.0  # see MinibatchStatistics.bias_error

IDENTITY = (
    "The mean of the per-sample gradients IS the gradient of the mean loss: that is linearity and holds whatever the "
    "data. Agreement proves the code; it says nothing about how good a stochastic gradient is."
)
NOTEBOOK = (
    "The original notebook sets its torch gradient at point 1 (drawn by torch, seed 45), {}, beside its numpy gradient "
    "at point 2 (drawn by numpy, seed 45), {}, and calls them consistent. The parameters differ, and so do the "
    "gradients; what holds is that at EQUAL parameters all four ways agree, at both points."
)


def show_estimate(console: Console, points: Sequence[ParameterPoint]) -> None:
    """Print both sections."""
    data, problem = points[0].data, points[0].problem
    say(
        console,
        f"{data.name}: {counted(data.size, 'row')}, {counted(data.features, 'feature')}; problem {problem.name}\n",
    )
    console.print(Rule("IDENTITIES", align="left"))
    say(console, f"{IDENTITY}\n")
    for key in points[0].ways.gradients:
        say(console, f"  {_way(key):<15} {GRADIENT_KERNELS[key]}")
    say(console, "")
    for point in points:
        _show_identity(console, point)
    if len(points) > 1:  # only the notebook has two
        say(console, NOTEBOOK.format(*(_vector(point.estimate.gradient) for point in points)) + "\n")
    console.print(Rule("STATISTICAL CLAIMS", align="left"))
    say(console, f"{_claim(points[0].estimate)}\n")
    for point in points:
        _show_claims(console, point)


def _vector(values: np.ndarray) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values.ravel())})"


def _show_identity(console: Console, point: ParameterPoint) -> None:
    say(console, f"{point.name}, mean loss {point.estimate.loss:.4f}", TITLE_STYLE)
    _print(console, *_identity(point))
    if (left := point.theta.size - MOST_PARAMETERS) > 0:
        say(console, f"... and {counted(left, 'parameter')} with smaller gradients")
    say(console, _agreement(point), WINNER if point.ways.agree else WRONG_STYLE)
    say(console, "")


def _identity(point: ParameterPoint) -> tuple[list[Column], list[list[str]]]:
    """Return the table of the gradient by every way, its largest entries."""
    gradients = {key: gradient.ravel() for key, gradient in point.ways.gradients.items()}
    ways = [Column(_way(key).replace(".", ".\n")) for key in gradients]
    rows = []
    for entry in _largest(point):
        name, value = point.parameters[entry], point.theta.ravel()[entry]
        rows.append([name, f"{value:.8g}", *(f"{gradient[entry]:.4f}" for gradient in gradients.values())])
    return [Column("parameter", left=True), Column("value"), *ways], rows


def _agreement(point: ParameterPoint) -> str:
    found = point.ways
    verdict = "they agree" if found.agree else "THEY DO NOT AGREE"
    return f"largest difference {found.difference:.2g}, rounding allows {found.allowed:.2g}: {verdict}"


def _print(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    print_panels(console, columns, [[Text(cell) for cell in row] for row in rows])


def _way(key: str) -> str:
    return Key.parse(key).plain_way


def _largest(point: ParameterPoint) -> list[int]:
    """Positions in theta to show, in order: those with the largest gradients if there are many."""
    order = np.argsort(-np.abs(point.estimate.gradient.ravel()), kind="stable")
    return sorted(order[:MOST_PARAMETERS].tolist())


def _claim(found: GradientStudy) -> str:
    how = "with" if found.replace else "without"
    return (
        f"How well a mini-batch of B rows estimates that gradient depends on the data. Measured: {found.draws:,} "
        f"mini-batches of each size, rows drawn {how} replacement (seed {found.seed}); intervals are 95%."
    )


def _show_claims(console: Console, point: ParameterPoint) -> None:
    say(console, point.name, TITLE_STYLE)
    _print(console, [Column(header) for header in CLAIMS], [_cells(batch) for batch in point.estimate.batches])
    for sentence in _sentences(point):
        say(console, sentence)
    say(console, "")


def _cells(batch: MinibatchStatistics) -> tuple[str, ...]:
    return (
        f"{batch.size:,}",
        _length(batch.bias),
        _length(batch.bias_error),
        f"{_length(batch.standard_error)} [{_length(batch.standard_error_low)}, {_length(batch.standard_error_high)}]",
        _length(batch.theory),
        _cosine(batch),
    )


def _cosine(batch: MinibatchStatistics) -> str:
    if math.isnan(batch.cosine):  # a gradient of zero has no direction
        return "-"
    return f"{batch.cosine:.4f} [{batch.cosine_low:.4f}, {batch.cosine_high:.4f}]"


def _length(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value else "0"


def _sentences(point: ParameterPoint) -> Iterator[str]:
    yield _about_bias(point.estimate.batches)
    yield _about_theory(point.estimate)
    yield _about_noise(point)


def _about_bias(batches: Sequence[MinibatchStatistics]) -> str:
    ratios = {batch.size: batch.bias / batch.bias_error if batch.bias_error else 0.0 for batch in batches}
    size = max(ratios, key=ratios.__getitem__)
    verdict = "SUSPICIOUS" if ratios[size] > SUSPICIOUS else f"beyond {SUSPICIOUS:g} would be suspicious"
    return f"Bias: at most {ratios[size]:.1f} times what chance gives without bias (B = {size:,}); {verdict}."


def _about_theory(found: GradientStudy) -> str:
    inside = sum(batch.standard_error_low <= batch.theory <= batch.standard_error_high for batch in found.batches)
    formula = "sigma / sqrt(B)" + ("" if found.replace else " * sqrt((n - B) / (n - 1))")
    return f"Standard error: {formula} lies in the interval at {inside} of {counted(len(found.batches), 'size')}."


def _about_noise(point: ParameterPoint) -> str:
    """Say what the noise scale means here (McCandlish et al. 2018)."""
    found = point.estimate
    if math.isinf(found.noise_scale):
        return "Noise scale: infinite; the gradient is zero here, so a mini-batch gradient is nothing but noise."
    parts = f"{found.trace:.4g} / {point.gradient_length:.4g}^2 = {found.noise_scale:.3g}"
    if found.noise_scale < 1:
        meaning = "below 1, so even a single row holds more gradient than noise, and large batches gain little"
    else:
        meaning = "so many rows drawn with replacement hold as much gradient as noise, and fewer are mostly noise"
    return f"Noise scale: tr(Sigma) / |G|^2 = {parts}; {meaning}."


def markdown(points: Sequence[ParameterPoint]) -> str:
    """Return both tables of each point in Markdown, with what they show."""
    return "\n\n".join(part for point in points for part in _parts(point)) + "\n"


def _parts(point: ParameterPoint) -> Iterator[str]:
    yield f"**{point.name}, mean loss {point.estimate.loss:.4f}**"
    yield markdown_table(*_identity(point))
    yield f"- {_agreement(point)}"
    yield markdown_table([Column(header) for header in CLAIMS], [_cells(batch) for batch in point.estimate.batches])
    yield "\n".join(f"- {sentence}" for sentence in _sentences(point))
