"""What is differentiated: a per-sample loss, and data to draw or to read."""

from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.problem import Problem
from gradkernels.problems.regression.families import (
    REGRESSIONS,
    HuberRegression,
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
    SoftmaxRegression,
)
from gradkernels.problems.regression.regression import Regression, Weighted
from gradkernels.problems.regression.scalar import ScalarRegression

__all__ = [
    "REGRESSIONS",
    "BlackBox",
    "HuberRegression",
    "LinearRegression",
    "LogisticRegression",
    "PoissonRegression",
    "Problem",
    "Regression",
    "ScalarRegression",
    "SoftmaxRegression",
    "Weighted",
]
