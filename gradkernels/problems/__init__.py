"""What is differentiated: a loss of each sample, and data to draw or to read.

`problem` is the noun, `Problem`: a per-sample loss of parameters theta, inputs x and targets y, with shapes, checks and
draws. There are three kinds of it, which do not know each other:

- `regression`: losses of a linear predictor, whose derivative is known in closed form. Kernels may rely on it.
- `module`: any `torch.nn.Module` with its loss, of which nothing is known but that it computes. Kernels are proven on
  the caller's own data there, again whenever the model changes;
- `function`: any JAX function that gives a loss of each sample, with parameters in any pytree; proven likewise.

`data` reads the tables that a regression is drawn from: bundled sets and people's own files. `frames` takes the arrays
out of DataFrames and Series, `nearby` draws numbers near a caller's own. `locks` has one thread at a time compute with
a model, and a fork of the process wait for it.

From here data go to a `Case` (problem, quantity, number of samples, dtype), on to kernels, and beside them to the
references of `gradkernels.check`. No problem computes its own reference: what is judged does not judge itself.
"""

from gradkernels.problems.function.function_problem import FunctionProblem
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.problem import Problem
from gradkernels.problems.regression.families import (
    REGRESSIONS,
    HuberRegression,
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
)
from gradkernels.problems.regression.regression import Regression
from gradkernels.problems.regression.scalar import ScalarRegression
from gradkernels.problems.regression.softmax import SoftmaxRegression
from gradkernels.problems.regression.weighted import Weighted

ExampleProblem = BlackBox | FunctionProblem
"""Kinds of problems whose data are a caller's own, or an example of them: nothing is drawn from a distribution."""

__all__ = [
    "REGRESSIONS",
    "BlackBox",
    "ExampleProblem",
    "FunctionProblem",
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
