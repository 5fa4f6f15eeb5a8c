"""One row for all parameters: the order and places of names in a flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gradkernels.backend import Array, backend_of
from gradkernels.dispatch.keywords import with_names
from gradkernels.dispatch.request import NameGlobs
from gradkernels.problems import BlackBox, FunctionProblem, Problem
from gradkernels.tree import Tree, count, leaves
from gradkernels.validate import validate_problem


@dataclass(frozen=True)
class FlatLayout:
    """Where each parameter's entries are in a flat row: side by side, in theta's order, each in C order.

    Attributes:
        shapes: Of the parameters by name; of a theta that is one array by the empty name.
    """

    shapes: dict[str, tuple[int, ...]]

    def __len__(self) -> int:
        """Return P, the number of entries."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __getitem__(self, name: str) -> slice:
        """Return the place of a parameter's entries."""
        return self.slices[name]

    @property
    def slices(self) -> dict[str, slice]:
        """Places by name."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = slice(start, start := start + math.prod(shape))
        return found

    def split(self, flat: Array) -> Tree:
        """Return arrays of theta's structure that share memory with flat ones `(..., P)`."""
        leading = tuple(flat.shape[:-1])
        if tuple(flat.shape[-1:]) != (len(self),):
            raise ValueError(f"the array is {tuple(flat.shape)}; its last axis must have the {len(self)} parameters")
        parts = {name: flat[..., at].reshape((*leading, *self.shapes[name])) for name, at in self.slices.items()}
        return parts.get("", parts)

    def join(self, tree: Tree, leading: int = 0) -> Array:
        """Return arrays of theta's structure, with so many axes in front, as one `(..., P)`.

        Args:
            tree: An array, or a dict of them.
            leading: Number of axes before each parameter's own.
        """
        parts = [tree[name] for name in self.shapes] if isinstance(tree, dict) else [tree]
        sizes = map(math.prod, self.shapes.values())
        flat = [part.reshape(*part.shape[:leading], size) for part, size in zip(parts, sizes, strict=True)]
        if len(flat) == 1:
            return flat[0]
        library = backend_of(flat[0])
        assert library is not None
        joined: Any = library.xp.concatenate(flat, -1)
        return joined


def flat(problem: Problem, theta: Tree = None, features: int = 1, *, parameters: NameGlobs = None) -> FlatLayout:
    """Return the order and places of parameters in a flat row.

    Args:
        problem: What is differentiated.
        theta: Parameters; None for a module's own, or for those of a regression with `features`.
        features: d, of a regression.
        parameters: Names or globs of the only parameters that are asked about; see `gk.gradient`.
    """
    validate_problem(problem)
    problem = with_names(problem, parameters)
    if theta is None:
        theta = problem.parameters() if problem.is_black_box else problem.draw_theta(features, 0)  # type: ignore[attr-defined]
    theta = _asked(problem, theta)
    named = theta if isinstance(theta, dict) else {"": theta}
    return FlatLayout({name: tuple(part.shape) for name, part in named.items()})


def _asked(problem: Problem, theta: Tree) -> Any:
    """Return what theta has of the parameters that are differentiated by."""
    if isinstance(problem, FunctionProblem):
        return problem.layout.flat(theta)
    return problem.chosen(theta) if isinstance(problem, BlackBox) else theta


def flat_row_arrays(
    bound: Callable[..., Tree],
    problem: Problem,
    arrays: tuple[Tree, Tree, Tree],
    out: Array | None,
    axes: tuple[int, ...] = (),
) -> Array:
    """Compute per-sample gradients into one array `(n, P)`, or those of each output into one `(n, ..., P)`.

    Args:
        bound: What computes them, and takes `out=`.
        problem: What is differentiated.
        arrays: `(theta, x, y)`.
        out: Memory for the result; None for new memory.
        axes: Of the outputs of a sample.

    Raises:
        ValueError: Memory of another shape or dtype; parameters of several dtypes.
    """
    theta, x, y = arrays
    if isinstance(problem, FunctionProblem):
        return flat(problem, theta).join(problem.layout.flat(bound(theta, x, y, out)), 1)
    if theta is None:
        theta = problem.parameters()  # type: ignore[attr-defined]
    if not isinstance(theta, dict):
        rows = bound(theta, x, y, None if out is None else out.reshape(-1, *theta.shape))
        return rows.reshape(len(rows), -1) if out is None else out
    layout, asked, n = flat(problem, theta), leaves(_asked(problem, theta)), count(problem.prepared(x, y))  # type: ignore[attr-defined]
    dtypes = {str(part.dtype) for part in asked}
    if len(dtypes) > 1:
        raise ValueError(f"theta has {' and '.join(sorted(dtypes))}; one flat array has one dtype, leave out flat=True")
    if out is None:
        from gradkernels.memory import empty_torch

        out = empty_torch((n, *axes, len(layout)), asked[0])
    elif tuple(out.shape) != (n, *axes, len(layout)):
        raise ValueError(f"out is {tuple(out.shape)}; it must be {(n, *axes, len(layout))}")
    bound(theta, x, y, layout.split(out))
    return out
