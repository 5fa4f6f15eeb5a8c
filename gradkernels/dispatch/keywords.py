"""What callers may say besides theta, x and y: `out=`, options of the quantity, and `sample_weight=`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from gradkernels.backend import Array
from gradkernels.kernel import Compute, Kernel
from gradkernels.memory import sealed, store
from gradkernels.names import counted
from gradkernels.problems import Problem, Regression, Weighted
from gradkernels.problems.regression.conversion import convert_target, plain_array
from gradkernels.quantity import Quantity
from gradkernels.result_buffers import validate_out
from gradkernels.tree import Tree, count, each, leaves
from gradkernels.validate import validate_inputs, validate_problem


def with_keywords(compute: Compute, kernel: Kernel, at_once: bool, validated: bool = False) -> Compute:
    """Wrap `compute` to take `out=` or `max_norm=` as callers give them, where its quantity does.

    Args:
        compute: In the caller's arrays.
        kernel: That it is of.
        at_once: Whether it can write into the caller's memory itself.
        validated: Whether the memory that it will be given was validated.
    """
    if kernel.quantity.writable:
        return _with_out(compute, kernel, kernel.out and at_once, validated)
    return _with_max_norm(compute) if kernel.quantity.option_names == ("max_norm",) else compute


def by_name(quantity: Quantity, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return by name what a call is given besides theta, x and y, whether by position or by name.

    Args:
        quantity: What is computed.
        arguments: By position.
        options: By name.

    Raises:
        TypeError: Something else than the quantity takes, or twice the same.
    """
    known = ("out",) if quantity.writable else quantity.option_names
    takes = f"{quantity} takes theta, x, y" + "".join(f" and {name}=" for name in known)
    if len(arguments) > len(known):
        raise TypeError(f"{counted(3 + len(arguments), 'argument')} were given; {takes}")
    given = dict(zip(known, arguments, strict=False))
    if twice := given.keys() & options.keys():
        raise TypeError(f"{min(twice)} is given by position and by name; leave one of them out")
    if unknown := options.keys() - {*known}:
        raise TypeError(f"{min(unknown)}= was given; {takes}")
    return given | options


def with_options(compute: Compute, quantity: Quantity, problem: Problem) -> Compute:
    """Wrap `compute` of a regression to look at the options of a call first, where its quantity has several kinds.

    Args:
        compute: In the caller's arrays.
        quantity: What is computed.
        problem: A regression.
    """
    if quantity.option_names in ((), ("max_norm",)):
        return compute

    def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Tree:
        given, checked = by_name(quantity, arguments, options), problem.as_inputs(theta, x, y)[0]
        return compute(theta, x, y, **quantity.checked(given, count(y), checked, partial(other_samples, checked)))

    def other_samples(theta: Tree, x: Tree, y: Tree) -> tuple[Tree, Tree]:
        theta, x, y = problem.as_inputs(theta, x, y)
        if all(hasattr(one, "device") for one in leaves((theta, x, y))):  # what JAX traces is nowhere yet
            validate_inputs(problem, theta, x, y)
        return plain_array(x), convert_target(problem, x, y)

    return call


def _with_max_norm(compute: Compute) -> Compute:
    def call(theta: Array, x: Array, y: Tree, max_norm: float = 1.0) -> Array:
        # A numpy scalar, such as a median of norms, would turn float32 results into float64.
        return compute(theta, x, y, max_norm=float(max_norm))

    return call


def _with_out(compute: Compute, kernel: Kernel, at_once: bool, validated: bool) -> Compute:
    """Wrap `compute` to take `out=`: written to at once, or copied to."""

    def call(theta: Tree, x: Tree, y: Tree, out: Tree | None = None) -> Tree:
        if out is None:
            return compute(theta, x, y)
        if not validated:
            validate_out(kernel.quantity, theta, x, y, out)
        if at_once and not any(map(sealed, leaves(out))):
            compute(theta, x, y, out=plain_array(out))
            return out
        each(lambda part, result: store(part, slice(None), result), out, compute(theta, x, y))
        return out

    return call


def with_names(problem: Problem, parameters: Any) -> Problem:
    """Return the problem of the parameters that a caller names, if any.

    Args:
        problem: What is differentiated.
        parameters: Names or globs of a module's parameters, or one of them; None for all.

    Raises:
        TypeError: They are no names, or the problem is no module.
        ValueError: One of them names no parameter that is trained.
    """
    if parameters is None:
        return problem
    validate_problem(problem)
    return problem.restricted(parameters)


def with_weights(problem: Problem, y: Any, sample_weight: Any) -> tuple[Problem, Weighted]:
    """Return the weighted problem, and the targets with their weights.

    Args:
        problem: A regression.
        y: Targets, `(n,)`.
        sample_weight: Factor of each sample's loss, `(n,)`.

    Raises:
        TypeError: The problem is no regression, or y holds weights already.
    """
    if not isinstance(problem, Regression):
        raise TypeError(f"sample_weight is for regressions; put weights into the loss of a {type(problem).__name__}")
    if isinstance(y, tuple):
        raise TypeError("y holds sample weights already; leave out sample_weight=, or pass the targets alone as y")
    return _weighted(problem), Weighted(y, sample_weight)


@lru_cache
def _weighted(problem: Regression) -> Regression:
    return replace(problem, weighted=True)
