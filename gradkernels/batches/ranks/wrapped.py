"""What is inside of a DistributedDataParallel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import Tree

WRAPPED_PREFIX = "module."
"""Of names of parameters in a DistributedDataParallel."""


def unwrapped(problem: Problem, theta: Tree, options: dict[str, Any]) -> tuple[Problem, Tree, dict[str, Any]]:
    """Return the problem of the module inside of a DistributedDataParallel, and names without its prefix.

    The module outside would talk to other ranks in each forward pass, however many batches these have.

    Args:
        problem: What is differentiated.
        theta: Parameters, or None.
        options: Of the call; `parameters` may have names.
    """
    if not isinstance(problem, BlackBox) or type(problem.model).__name__ != "DistributedDataParallel":
        return problem, theta, options
    inside = problem.cache.get("inside")
    if inside is None:
        only = tuple(map(_inner, problem.only))
        inside = problem.cache["inside"] = replace(problem, model=problem.model.module, only=only)  # type: ignore[type-var]
    if isinstance(theta, dict):
        theta = {_inner(name): one for name, one in theta.items()}
    if (names := options.get("parameters")) is not None:
        options = options | {"parameters": _inner(names) if isinstance(names, str) else [*map(_inner, names)]}
    return inside, theta, options


def _inner(name: str) -> str:
    return name.removeprefix(WRAPPED_PREFIX)
