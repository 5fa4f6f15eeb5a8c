"""What is differentiated: a per-sample loss, and data to draw or to read."""

from gradkernels.problems.problem import Problem
from gradkernels.problems.regression import REGRESSIONS, LinearRegression, Regression

__all__ = ["REGRESSIONS", "LinearRegression", "Problem", "Regression"]
