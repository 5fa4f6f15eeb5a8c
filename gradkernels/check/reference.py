"""The quantities as they must be, from independent float64 gradients of each sample by definitions of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.check import complex_step, function_gradients
from gradkernels.check.known_gradients import KnownGradients
from gradkernels.check.true_gradients import ERROR_SLACK, TrueGradients
from gradkernels.problems import FunctionProblem, Problem, Regression
from gradkernels.quantities.shared.outputs import chosen_outputs, every_output
from gradkernels.quantity import Quantity, flat, quantity
from gradkernels.tree import Tree, each
from gradkernels.truth import Floats


@dataclass(frozen=True)
class Expected:
    """What a kernel must return.

    Attributes:
        value: The result, float64.
        scale: Scale of each entry's rounding error, same structure as `value`.
        terms: Number of roundings that add up in one entry.
    """

    value: Any
    scale: Any
    terms: int


@dataclass(frozen=True)
class Reference(KnownGradients):
    """The quantities at one point and data set, and how well a working precision can know them.

    Attributes:
        problem: Whose loss is differentiated.
        theta: Parameters; with x and y in any float dtype, taken exactly.
        x: Features.
        y: Targets.
        known: Their gradients, where they are there already.
    """

    problem: Problem
    theta: Tree
    x: Tree
    y: Tree
    known: TrueGradients | None = None

    @property
    def inputs(self) -> tuple[Tree, Tree, Tree]:
        """Theta, x and y."""
        return self.theta, self.x, self.y

    @cached_property
    def true(self) -> TrueGradients:
        """The gradients, known or computed."""
        return self.known or true_gradients(self.problem, *each(_wide, (self.theta, self.x, self.y)))

    @cached_property
    def of_outputs(self) -> Reference:
        """The same of each output of each sample, one after the other, where y has a weight for each."""
        x, y = chosen_outputs(self.x, self.y, *every_output(self.y))
        return replace(self, x=x, y=y, known=None)

    def with_errors(self, samples: Any, allowed: float, dtype: str) -> Reference | None:
        """Return the same with larger scales where a working precision cannot know the rows of some samples.

        Args:
            samples: Their numbers, `(k,)`.
            allowed: Error that is allowed, in units of the scale.
            dtype: The working precision.

        Returns:
            None where the scales are known to be those of rounding.
        """
        true = self.true
        if true.row_errors is None:
            return None
        scale = self.norm_scale.copy()
        scale[samples] = np.maximum(scale[samples], ERROR_SLACK / allowed * true.row_errors(samples, dtype))
        wide = np.broadcast_to(scale[:, None], true.rows.shape)
        return replace(self, known=true._replace(scale=wide, norm_scale=scale))

    def expect(self, asked: str | Quantity, **options: Any) -> Expected:
        """Compute a quantity by the definition that results are held against.

        Args:
            asked: The quantity, or its name.
            options: Of the call, as numpy arrays.
        """
        asked = quantity(asked)
        value, scale = asked.expect(self, **options)
        per_row = flat(self.rows, 1).shape[1] + 4
        return Expected(value, scale, per_row + (0 if asked.by_sample else len(self.rows)))

    def of_batch(self, batch: tuple[Tree, Tree]) -> Reference:
        """Return the reference at the same theta for other samples `(x, y)`."""
        return Reference(self.problem, self.theta, *batch)


def true_gradients(problem: Problem, theta: Tree, x: Tree, y: Tree) -> TrueGradients:
    """Compute what every kernel of the problem is held against, from the loss alone.

    Args:
        problem: A regression, by the complex step, or a module or JAX function, by a backward pass for each sample.
        theta: Parameters, float64 numpy arrays, as all that follow.
        x: Inputs, n samples.
        y: Targets.

    Raises:
        TypeError: It is neither.
        ValueError: Samples of a module have no gradients of their own; see `gradkernels.check.modules.reference`.
    """
    if isinstance(problem, Regression):
        return complex_step.regression_gradients(problem, theta, x, y)
    if isinstance(problem, FunctionProblem):
        return function_gradients.gradients_of(problem, theta, x, y)
    from gradkernels.check.modules import reference  # which loads torch
    from gradkernels.problems.module.black_box import BlackBox

    if not isinstance(problem, BlackBox):
        raise TypeError(f"{problem.name} is no regression, module or JAX function; there is no reference for it")
    return reference.module_gradients(problem, theta, x, y)


def _wide(array: Floats) -> Floats:
    """Convert an array to float64, exactly, or to two of them for complex numbers; keep class numbers as they are."""
    kind = np.asarray(array).dtype.kind
    return array if kind in "iub" else np.asarray(array, np.complex128 if kind == "c" else np.float64)
