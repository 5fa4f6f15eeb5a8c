"""The model that a tool's rows are held against: a copy, without the hooks that the tool has put on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gradkernels.problems import BlackBox, Problem
from gradkernels.problems.module.input_writes import share_input_writes
from gradkernels.problems.module.output_axes import share_output_axes

TOOLS = ("opacus", "backpack", "captum", "dattri", "torchjd", "trak", "laplace", "bergson")
"""Packages whose hooks compute something beside a model. Those of weight norm, for instance, are part of the model."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def clean_copy(problem: Problem) -> Problem:
    """Return the problem with copies of its modules, without tools' hooks; the very same where none can be made."""
    if not isinstance(problem, BlackBox):
        return problem
    try:
        made = {name: _copied(getattr(problem, name)) for name in ("model", "loss_fn")}
    except Exception:  # a model that holds tensors of a graph, or what cannot be copied
        return problem
    copied: Problem = replace(problem, **made)  # type: ignore[type-var]
    return copied


def _copied(part: Any) -> Any:
    import torch

    if not isinstance(part, torch.nn.Module):
        return part
    made = copy.deepcopy(part)
    for module in made.modules():
        for attribute in _HOOKS:
            hooks = getattr(module, attribute)
            for key in [key for key, hook in hooks.items() if _is_of_tool(hook)]:
                del hooks[key]
    share_input_writes(part, made)
    share_output_axes(made, part)
    return made


def _is_of_tool(hook: Callable[..., Any]) -> bool:
    home = getattr(getattr(hook, "func", hook), "__module__", None) or ""
    return home.partition(".")[0] in TOOLS
