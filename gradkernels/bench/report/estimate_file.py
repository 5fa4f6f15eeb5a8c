"""The CSV of `gradkernels estimate`, read back: what a picture needs of each parameter point."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from gradkernels.bench.report.estimate_table import ESTIMATE_COLUMNS, ParameterPoint, as_csv
from gradkernels.estimate.minibatch import MinibatchStatistics, standard_error

STATISTICS_COLUMNS = tuple(field.name for field in fields(MinibatchStatistics)[1:])


@dataclass(frozen=True)
class EstimatedPoint:
    """What is known of one parameter point on one data set.

    Attributes:
        data: Name of the data set.
        problem: Name of the problem.
        name: Of the point.
        n: Rows of the data.
        draws: Mini-batches of each size.
        replace: Whether a mini-batch may hold a row twice.
        trace: tr(Sigma) of the per-sample gradients.
        noise_scale: tr(Sigma) / |G|^2.
        gradient_length: |G|.
        batches: One for each size, ascending.
    """

    data: str
    problem: str
    name: str
    n: int
    draws: int
    replace: bool
    trace: float
    noise_scale: float
    gradient_length: float
    batches: tuple[MinibatchStatistics, ...]

    def theory(self, size: int) -> float:
        """Return the standard error that mini-batches of `size` rows must have."""
        return standard_error(self.trace, self.n, size, self.replace)


def is_estimate(path: Path) -> bool:
    """Tell whether a file begins with the header of an estimate's CSV."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().startswith(",".join(ESTIMATE_COLUMNS[:4]))


def points_of(points: Iterable[ParameterPoint]) -> list[EstimatedPoint]:
    """Return what was just computed as its file would hold it."""
    return _points(as_csv(points), "the estimate")


def read_estimates(paths: Iterable[Path]) -> list[EstimatedPoint]:
    """Read the points of one or more files.

    Raises:
        ValueError: A file is not the CSV of an estimate; names it, and the line. Or it is given twice.
        OSError: A file cannot be opened.
    """
    paths = list(paths)
    if again := [path for place, path in enumerate(paths) if path in paths[:place]]:
        raise ValueError(f"{again[0]} is given twice; its points are drawn once, so name it once")
    return [point for path in paths for point in _points(path.read_text(encoding="utf-8-sig"), str(path))]


def _points(text: str, name: str) -> list[EstimatedPoint]:
    rows = csv.DictReader(io.StringIO(text), restval="")
    if missing := [column for column in ESTIMATE_COLUMNS if column not in (rows.fieldnames or ())]:
        raise ValueError(f"{name}: has no column {missing[0]}; write it with `gradkernels estimate --out FILE.csv`")
    read: list[EstimatedPoint] = []
    for row in rows:
        try:
            read.append(_point(row))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}, line {rows.line_num}: {error}") from None
    if not read:
        raise ValueError(f"{name}: has no rows; write it with `gradkernels estimate --out FILE.csv`")
    points = [list(group) for _, group in groupby(read, key=lambda point: replace(point, batches=()))]
    return [replace(own[0], batches=tuple(batch for one in own for batch in one.batches)) for own in points]


def _point(row: Mapping[str, str]) -> EstimatedPoint:
    """Return the point of a row, with the batch of that row alone."""
    return EstimatedPoint(
        data=row["data"],
        problem=row["problem"],
        name=row["point"],
        n=int(row["n"]),
        draws=int(row["draws"]),
        replace=row["replace"] == "True",
        trace=float(row["trace"]),
        noise_scale=float(row["noise_scale"]),
        gradient_length=float(np.linalg.norm([float(part) for part in row["gradient"].split()])),
        batches=(MinibatchStatistics(int(row["batch_size"]), *(float(row[name]) for name in STATISTICS_COLUMNS)),),
    )
