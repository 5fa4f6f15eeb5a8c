"""Which kernel to use where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradkernels.backend import Backend
from gradkernels.case import Case
from gradkernels.kernel import Kernel
from gradkernels.problems import BlackBox

FASTEST_FIRST = (
    "torch.autograd",
    "torch.hooks",
    "torch.vmap",
    "torch.compiled_hooks",
    "torch.compiled",
    "torch.jacobian",
    "torch.hooks.gradient",
)
"""Ways for modules, as they rank for most models; a key in it takes the place of its way. Those left out come last."""


def by_rule(case: Case, library: Backend, able: Sequence[Kernel]) -> tuple[Kernel, str]:
    """Choose a kernel without measurements.

    Args:
        case: What is to be computed.
        library: Whose arrays the caller has.
        able: Kernels that can do it, at least one.

    Returns:
        The kernel, and the rule in words.
    """
    if isinstance(case.problem, BlackBox):
        best = min(able, key=_of_module)
        return best, "nothing to compile, no Python loop, what is fast for most models; `gk.race` measures"
    best = min(able, key=lambda k: (k.loops, k.backend.host is not library, k.preference))
    return best, "no Python loop, written by hand, few dependencies"


def _of_module(kernel: Kernel) -> tuple[Any, ...]:
    # What is of another package than torch comes after everything that is not, but for what compiles.
    later = (kernel.compiles, kernel.backend.host is not kernel.backend, kernel.loops, kernel.pays_after)
    return *later, rank(kernel), kernel.preference


def rank(kernel: Kernel) -> int:
    """Return the place of a kernel for a module in `FASTEST_FIRST`, its length for those left out."""
    way = f"{kernel.backend.name}.{kernel.name.removesuffix('+')}"
    name = next((name for name in (kernel.key, way) if name in FASTEST_FIRST), None)
    return len(FASTEST_FIRST) if name is None else FASTEST_FIRST.index(name)
