"""`gradkernels plot`: pictures of results files, and of an estimate's."""

from __future__ import annotations

from pathlib import Path

from gradkernels.bench.cli import options, parse, plot_options
from gradkernels.bench.cli.files import require_free, require_suffix, write_whole
from gradkernels.bench.report.estimate_file import is_estimate, read_estimates
from gradkernels.bench.report.pictures.content import PictureKind
from gradkernels.bench.results.reader import read_results
from gradkernels.bench.results.table import ResultsTable
from gradkernels.key import Key, matching, split_patterns
from gradkernels.names import pick
from gradkernels.quantity import QUANTITIES


def plot(
    files: plot_options.PlottedFiles,
    out: plot_options.PlotOut,
    kind: plot_options.PlotKind = None,
    baseline: plot_options.Baseline = None,
    quantity: options.QuantityNames = "all",
    kernel: options.KernelGlobs = None,
    calls: options.FastestCalls = None,
    force: plot_options.PlotForce = False,
) -> None:
    """Draw results: a panel for each table of winners, a line for each way, and as the title what is found."""
    _require_picture(files, out, force)
    if _of_estimates(files, kind):
        _refuse_for_estimates({"--baseline": baseline, "--kernel": kernel, "--calls": calls})
        _draw_estimate(files, out)
    else:
        kind = kind or PictureKind.time
        every = _of_quantities(read_results(files), files, quantity)
        baseline = _baseline(every, kind, baseline) if kernel else baseline
        table = _of_kernels(every, [*(kernel or []), *([baseline] if kernel and baseline else [])])
        _draw_run(table, out, kind, baseline, calls)
    print(f"written: {out}")


def _require_picture(files: list[Path], out: Path, force: bool) -> None:
    """Raise unless a picture can be written to `out`, before anything is read."""
    from gradkernels.bench.report.pictures.draw import formats

    require_suffix("--out", out, formats())
    if out.resolve() in (file.resolve() for file in files):
        raise ValueError(f"--out {out} is also what is drawn; name another file")
    require_free("--out", out, force)


def _of_estimates(files: list[Path], kind: PictureKind | None) -> bool:
    if kind is not None:
        return kind is PictureKind.estimate
    kinds = {file: is_estimate(file) for file in files}
    if len(set(kinds.values())) > 1:
        one, other = (next(file for file, its in kinds.items() if its is which) for which in (True, False))
        raise ValueError(f"{one} is of an estimate and {other} of a run; draw them apart")
    return all(kinds.values())


def _refuse_for_estimates(given: dict[str, object]) -> None:
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} is for the results of a run; an estimate is drawn as it is")


def _of_quantities(table: ResultsTable, files: list[Path], quantity: str) -> ResultsTable:
    """Return the kernels' rows of the quantities that are drawn.

    Args:
        table: Every row.
        files: Where they are from, for the message.
        quantity: The names that were asked for, or `all`.

    Raises:
        ValueError: None of them has a time, or there is no such quantity.
    """
    wanted = _quantities(quantity, table)
    table = table[table.where("case", lambda case: case.quantity in wanted)]
    table = table[table.where("kernel", lambda kernel: Key.parse(kernel).competes)]
    if not table.timed.any():
        what = "" if quantity == "all" else f" of {quantity}"
        raise ValueError(
            f"{', '.join(map(str, files))} has no proven time{what} to draw; measure with `gradkernels run`"
        )
    return table


def _of_kernels(table: ResultsTable, patterns: list[str]) -> ResultsTable:
    """Return the rows of the kernels that patterns mean."""
    wanted = set(matching(split_patterns(patterns), table.used("kernel")))
    return table[table.where("kernel", wanted.__contains__)]


def _baseline(table: ResultsTable, kind: PictureKind, named: str | None) -> str | None:
    """Return what the chosen kernels are compared with, which need not be one of them."""
    from gradkernels.bench.report.pictures.baseline import chosen_baseline
    from gradkernels.bench.report.pictures.kinds import SCALES
    from gradkernels.bench.report.pictures.measured import timed_cases

    return chosen_baseline(named, timed_cases(table)) if SCALES[kind].relative else named


def _quantities(text: str, table: ResultsTable) -> set[str]:
    """Return the quantities that are drawn; those of functions have names of their own."""
    there = {case.quantity: case.quantity for case in table.used("case")}
    if text == "all":
        return set(there)
    known = {**dict(zip(QUANTITIES, QUANTITIES, strict=True)), **there}
    return {pick(known, name, "quantity") for name in parse.quantity_names(text)}


def _draw_run(table: ResultsTable, out: Path, kind: PictureKind, baseline: str | None, calls: int | None) -> None:
    from gradkernels.bench.report.pictures.draw import draw
    from gradkernels.bench.report.pictures.run_content import content_of

    write_whole(out, draw(content_of(table, kind, baseline, calls), out.suffix.lower()))


def _draw_estimate(files: list[Path], out: Path) -> None:
    points = read_estimates(files)
    from gradkernels.bench.report.pictures.estimate import draw_estimate

    write_whole(out, draw_estimate(points, out.suffix.lower()))
