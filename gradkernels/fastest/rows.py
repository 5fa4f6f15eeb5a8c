"""The matrix of all per-sample gradients, never formed unless asked: each use goes to the fastest proven kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.dispatch.keywords import with_names
from gradkernels.dispatch.request import NameGlobs
from gradkernels.fastest.clipped import clipped_sum
from gradkernels.fastest.compute import Chosen, compute
from gradkernels.fastest.flat_rows import FlatLayout, flat
from gradkernels.fastest.of_gradients import norms
from gradkernels.fastest.operands import chosen_samples, in_numpy, operand, require_layout, same_parameters
from gradkernels.fastest.row_columns import Columns
from gradkernels.fastest.scipy_operator import operator_of
from gradkernels.problems import BlackBox, Problem
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import Tree, count, leaves, take
from gradkernels.validate import validate_inputs, validate_problem

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """The matrix G `(n, P)` whose rows are the gradients of single samples; it holds inputs, not results.

    Flat vectors have the parameters side by side, `layout` says where; what has theta's structure is taken too.

    Attributes:
        problem: What is differentiated.
        theta: Parameters, of a module as given.
        x: Features or inputs.
        y: Targets.
        layout: Order and places of the parameters in a flat row.
        chosen: What kernels are chosen by: `(kernel, results, max_bytes)`.
    """

    problem: Problem
    theta: Tree
    x: Tree
    y: Tree
    layout: FlatLayout
    chosen: Chosen = (None, None, None)

    __array_ufunc__ = None  # numpy's `w @ G` is ours

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and of parameters."""
        return count((self.x, self.y)), len(self.layout)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        """Return `Rows(module:Sequential, 128 x 26010)`."""
        return f"Rows({self.problem.name}, {self.shape[0]} x {self.shape[1]})"

    @property
    def T(self) -> Columns:
        """The transpose, for `G @ H.T` and `G.T @ w`."""
        return Columns(self)

    def __matmul__(self, other: Any) -> Any:
        """Compute G v `(n,)`, G V `(n, K)` for V `(P, K)`, or with `H.T` the inner products `(n, m)`.

        A direction of theta's structure is taken as a vector.

        Raises:
            ValueError: A wrong shape, or H has another problem or other parameters.
        """
        if isinstance(other, Columns):
            return self._gram(other.rows)
        if isinstance(other, dict):
            return self._compute("inner", v=other)
        other, size = operand(other, "v"), self.shape[1]
        if not 1 <= other.ndim <= 2 or len(other) != size:
            raise ValueError(f"v is {tuple(other.shape)}; it must be ({size},) or ({size}, K)")
        return self._compute("inner", v=self.layout.split(other if other.ndim == 1 else other.T))

    def __rmatmul__(self, weights: Array) -> Array:
        """Compute w G `(P,)`, or `(K, P)` for w `(K, n)`."""
        weights, n = operand(weights, "w"), len(self)
        if not 1 <= weights.ndim <= 2 or weights.shape[-1] != n:
            raise ValueError(f"w is {tuple(weights.shape)}; it must be ({n},) or (K, {n})")
        if weights.ndim == 1:
            return self.layout.join(self._compute("weighted_sum", weights=weights))
        return self.layout.join(self._compute("weighted_sum", weights=weights.T), 1)

    def __getitem__(self, samples: Any) -> Rows:
        """Return the rows of some samples: their number, a slice, or an array of numbers or of truth values."""
        x, y = take((self.x, self.y), chosen_samples(samples, len(self)))
        return Rows(self.problem, self.theta, x, y, self.layout, self.chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return the matrix itself as numpy's, for `np.asarray`."""
        return np.asarray(in_numpy(self.dense()), dtype)

    def _gram(self, other: Rows) -> Array:
        if other is self:
            return self._compute("gram")
        if other.problem != self.problem or not same_parameters(self._parameters, other._parameters):
            raise ValueError(
                "G @ H.T has one problem and one theta for both; compute G.dense() @ H.dense().T where they differ"
            )
        return self._compute("gram", other=(other.x, other.y))

    def outer(self) -> Array:
        """Return the sum of the rows' outer products, `(P, P)`: `G.T @ G`."""
        return self._compute("outer")

    def norms(self, by: Any = None) -> Any:
        """Return the length of each row, `(n,)`; with `by` over each parameter or group, a dict: see `gk.norms`."""
        return self._ask(norms, by=by)

    def clipped_sum(self, max_norm: Any = 1.0, **options: Any) -> Any:
        """Return the sum of the rows, each cut to `max_norm`, of theta's structure; options as of `gk.clipped_sum`."""
        return self._ask(clipped_sum, max_norm=max_norm, **options)

    def project(self, size: int = 512, seed: int = 0, kind: str = "gaussian") -> Array:
        """Return the rows times a random matrix, `(n, size)`; see `gk.project`.

        Args:
            size: Dimensions of the result.
            seed: Of the matrix.
            kind: `gaussian` or `factored`.
        """
        return self._compute("project", size=size, seed=seed, kind=kind)

    def mean(self) -> Tree:
        """Return the mean of the rows, of theta's structure: the gradient of the mean loss."""
        return self._compute("gradient")

    def variance(self) -> Tree:
        """Return the biased variance of each parameter's gradient over the samples, of theta's structure."""
        return self._compute("moments").variance

    def dense(self) -> Array:
        """Return the matrix itself, `(n, P)`."""
        return self.layout.join(self._compute("per_sample"), 1)

    def linear_operator(self) -> LinearOperator:
        """Return it as scipy's LinearOperator, on which `svds`, `lsqr` and `eigsh` run; in numpy's float64."""
        return operator_of(self, leaves(self._parameters)[0])

    @property
    def _parameters(self) -> Tree:
        return self.problem.parameters() if self.theta is None else self.theta  # type: ignore[attr-defined]

    def _arrays(self) -> tuple[Tree, Tree, Tree]:
        """Return theta, x and y; raise a ValueError where the model trains other parameters than when this was made."""
        if self.theta is None:
            require_layout(flat(self.problem), self.layout)
        return self.theta, self.x, self.y

    def _compute(self, name: str, **options: Any) -> Any:
        return compute(name, self.problem, self._arrays(), self.chosen, None, **options)

    def _ask(self, function: Callable[..., Any], **options: Any) -> Any:
        kernel, results, max_bytes = self.chosen
        return function(self.problem, *self._arrays(), kernel=kernel, results=results, max_bytes=max_bytes, **options)


def rows(
    problem: Problem,
    theta: Tree,
    x: Tree,
    y: Tree,
    *,
    parameters: NameGlobs = None,
    kernel: Any = None,
    results: Any = None,
    max_bytes: int | None = None,
) -> Rows:
    """Return the matrix of all per-sample gradients `(n, P)`, which is never formed unless asked.

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first.
        y: Targets, samples first.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        kernel: A way (`torch.hooks`) to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.

    Raises:
        TypeError: Not arrays of one library and dtype.
        ValueError: Shapes that do not fit.
    """
    validate_problem(problem)
    problem = with_names(problem, parameters)
    if isinstance(problem, BlackBox):  # whose inputs are looked at when they are used
        x, y = problem.prepared(x, y)
    else:
        theta, *samples = problem.as_inputs(theta, x, y)
        if not any(map(is_lazy, leaves((x, y)))):  # whose blocks are looked at when they are used
            validate_inputs(problem, theta, *samples)
    return Rows(problem.named_results(), theta, x, y, flat(problem, theta), (kernel, results, max_bytes))
