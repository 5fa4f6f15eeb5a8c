"""Modules as torch.distributed has them: what is inside of a DistributedDataParallel, and none that is sharded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import Tree

PREFIX = "module."
"""Of names of parameters in a DistributedDataParallel."""


def unwrapped(problem: Problem, theta: Tree, options: dict[str, Any]) -> tuple[Problem, Tree, dict[str, Any]]:
    """Return the problem of the module inside of a DistributedDataParallel, and names without its prefix.

    The module outside would talk to other ranks in each forward pass, however many batches these have.

    Args:
        problem: What is differentiated.
        theta: Parameters, or None.
        options: Of the call; `parameters` may have names.

    Raises:
        TypeError: Parameters are sharded over ranks.
    """
    if not isinstance(problem, BlackBox):
        return problem, theta, options
    _require_whole(problem)
    if type(problem.model).__name__ != "DistributedDataParallel":
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
    return name.removeprefix(PREFIX)


def _require_whole(problem: BlackBox) -> None:
    for name, parameter in problem.model.named_parameters():
        if type(parameter).__name__ == "DTensor":
            raise TypeError(
                f"{name} is sharded over ranks (fully_shard), and gradients of single samples need whole parameters; "
                "where these fit, pass the problem of a module that is not sharded, and theta={name: one.full_tensor() "
                "for name, one in model.named_parameters()}"
            )
