"""What `gradkernels estimate` found at each parameter point, and its CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from gradkernels.estimate.minibatch import MinibatchStatistics
from gradkernels.estimate.study import GradientComparison, GradientStudy, compare_gradients, estimate
from gradkernels.problems import Problem, Regression
from gradkernels.problems.data.datasets import Dataset
from gradkernels.record import line
from gradkernels.truth import Floats


@dataclass(frozen=True, eq=False)
class ParameterPoint:
    """One parameter point on one data set.

    Attributes:
        name: `point 1`, or `theta`.
        problem: Whose loss is differentiated.
        data: Data set whose rows are the samples.
        theta: The parameters.
        ways: The gradient by four ways.
        estimate: How well mini-batches estimate it.
    """

    name: str
    problem: Problem
    data: Dataset
    theta: Floats
    ways: GradientComparison
    estimate: GradientStudy

    @property
    def parameters(self) -> list[str]:
        """A name for each entry of theta, in order: `theta_0 (intercept)`, `theta_1 (x)`."""
        if isinstance(self.problem, Regression) and self.theta.ndim == 1:
            names = ("intercept", *self.data.columns) if self.problem.fit_intercept else self.data.columns
            first = 1 - self.problem.fit_intercept
            return [f"theta_{first + i} ({name})" for i, name in enumerate(names)]
        return [f"theta[{', '.join(map(str, index))}]" for index in np.ndindex(self.theta.shape)]

    @property
    def gradient_length(self) -> float:
        """|G|, the Euclidean length of the true gradient."""
        return float(np.linalg.norm(self.estimate.gradient))


def measure(problem: Problem, data: Dataset, points: dict[str, Floats], **options: Any) -> list[ParameterPoint]:
    """Compute everything at each point.

    Args:
        problem: What is differentiated.
        data: Whose rows are the samples.
        points: Theta by the name of the point.
        options: Those of `gradkernels.estimate.study.estimate`.
    """
    y = problem.targets(data.y, options.get("seed", 0))
    return [
        ParameterPoint(
            name=name,
            problem=problem,
            data=data,
            theta=theta,
            ways=compare_gradients(problem, theta, data.x, y),
            estimate=estimate(problem, theta, data.x, y, **options),
        )
        for name, theta in points.items()
    ]


FACTS = (
    *("data", "problem", "point", "theta", "n", "features", "draws", "replace", "seed", "kernel"),
    *("loss", "gradient", "ways_difference", "ways_allowed", "trace", "noise_scale"),
)
ESTIMATE_COLUMNS = (*FACTS, "batch_size", *(field.name for field in fields(MinibatchStatistics)[1:]))


def as_csv(points: Iterable[ParameterPoint]) -> str:
    """Return CSV with a row per point and batch size, each with all that is needed to read it alone.

    `theta` and `gradient` are numbers separated by spaces; an infinite noise scale is `inf`, an undefined cosine `nan`.
    """
    return line(ESTIMATE_COLUMNS) + "".join(map(line, _rows(points)))


def as_json(points: Iterable[ParameterPoint]) -> str:
    """Return a JSON list with an object per point and batch size; what is infinite or undefined is null."""
    rows = (map(_finite, row) for row in _rows(points))
    return json.dumps([dict(zip(ESTIMATE_COLUMNS, row, strict=True)) for row in rows], indent=1, allow_nan=False) + "\n"


def _rows(points: Iterable[ParameterPoint]) -> Iterator[tuple[object, ...]]:
    return ((*_facts(point), *astuple(batch)) for point in points for batch in point.estimate.batches)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _facts(point: ParameterPoint) -> tuple[object, ...]:
    found = point.estimate
    return (
        *(point.data.name, point.problem.name, point.name, _numbers(point.theta), found.n, point.data.features),
        *(found.draws, found.replace, found.seed, found.kernel, found.loss, _numbers(found.gradient)),
        *(point.ways.difference, point.ways.allowed, found.trace, found.noise_scale),
    )


def _numbers(array: Floats) -> str:
    return " ".join(repr(float(value)) for value in array.ravel())
