"""Labels of classes as the numbers 0, 1, ... that a loss takes: names, and numbers that begin elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradkernels.names import counted
from gradkernels.problems.problem import Problem
from gradkernels.problems.regression.families import LogisticRegression
from gradkernels.problems.regression.softmax import SoftmaxRegression

_SHOWN = 20


def classes_of(problem: Problem) -> int | None:
    """Return how many classes a problem tells apart; None for one whose targets are no classes."""
    if isinstance(problem, SoftmaxRegression):
        return problem.classes
    return 2 if isinstance(problem, LogisticRegression) else None


def numbered_names(names: Sequence[str | None], classes: int, where: str) -> tuple[Any, dict[str, int]]:
    """Return names of classes as numbers, NaN for a missing one, and which name has which: in alphabetical order.

    Args:
        names: One for each row.
        classes: That the problem has.
        where: What a message calls the column.

    Raises:
        ValueError: There are more than the problem has.
    """
    known = sorted({name for name in names if name is not None})
    if len(known) > classes:
        few = ", ".join(known[:_SHOWN]) + ", ..." * (len(known) > _SHOWN)
        hint = f"softmax(classes={len(known)}) takes them"
        raise ValueError(f"{where} has {counted(len(known), 'label')} ({few}), the problem {classes} classes; {hint}")
    numbers = {name: number for number, name in enumerate(known)}
    return np.array([np.nan if name is None else numbers[name] for name in names], np.float64), numbers


def numbered_from_zero(values: Any, classes: int) -> tuple[Any, dict[str, int]]:
    """Return numbers of classes from 0 on, and which was which; as they are where they begin there or are no classes.

    Labels such as 1, 2, 3 for three classes, or -1 and 1 for two, are meant in their order.

    Args:
        values: The target, finite.
        classes: That the problem has.
    """
    known = np.unique(values)
    if len(known) != classes or (known != np.round(known)).any() or (known == np.arange(classes)).all():
        return values, {}
    labels = {f"{label:g}": number for number, label in enumerate(known.tolist())}
    return np.searchsorted(known, values).astype(np.float64), labels


def numbered_labels(name: str, column: str, labels: dict[str, int]) -> str:
    """Return the sentence that tells which label has which number.

    Args:
        name: Of the data.
        column: The target.
        labels: Number of each.
    """
    told = [f"{label} = {number}" for label, number in labels.items()]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return f"{name}: classes of {column}: {', '.join(told[:_SHOWN])}{more}"
