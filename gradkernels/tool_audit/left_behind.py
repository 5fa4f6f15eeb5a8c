"""What a tool leaves otherwise than it was besides data and parameters: the model's mode, torch's random numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from gradkernels.backend import Array
from gradkernels.names import counted
from gradkernels.problems import BlackBox, Problem

SEEDED = "it has seeded torch's random numbers anew: what draws after it repeats what was drawn before"


class CallState(NamedTuple):
    """What is around a call.

    Attributes:
        modes: Whether each module is in train mode, by name.
        seed: That torch's random numbers were seeded with last; None without torch.
        state: Of these numbers.
    """

    modes: dict[str, bool]
    seed: int | None = None
    state: Array | None = None


def call_state(problem: Problem) -> CallState:
    """Return what is around a call now."""
    model: Any = problem.model if isinstance(problem, BlackBox) else None
    modes = {} if model is None else {name: module.training for name, module in model.named_modules()}
    torch: Any = sys.modules.get("torch")
    return CallState(modes) if torch is None else CallState(modes, torch.initial_seed(), torch.get_rng_state())


def left_behind(before: CallState, after: CallState) -> Iterator[str]:
    """Yield a sentence for each thing that a call has left otherwise than it was."""
    if names := [name for name, mode in before.modes.items() if after.modes.get(name, mode) != mode]:
        which = "the model" if names[0] == "" else f"{counted(len(names), 'module')} of the model, first {names[0]},"
        yield f"it has left {which} in {'eval' if before.modes[names[0]] else 'train'} mode"
    if before.state is not None and (after.seed != before.seed or _is_as_seeded(before, after)):
        yield SEEDED


def _is_as_seeded(before: CallState, after: CallState) -> bool:
    """Return whether numbers begin again with the seed that they had, which is the same number."""
    import torch

    first = torch.Generator().manual_seed(after.seed or 0).get_state()
    return torch.equal(first, after.state) and not torch.equal(first, before.state)  # type: ignore[arg-type]
