"""Kernels x quantities x problems: what there is, how it comes about, and the reason for every hole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradkernels.case import Case
from gradkernels.kernel import Kernel
from gradkernels.key import Key
from gradkernels.problems import Problem
from gradkernels.quantity import QUANTITIES
from gradkernels.registry import kernels


@dataclass(frozen=True)
class CatalogueRow:
    """One way, one quantity, one problem.

    Attributes:
        problem: Name of the problem.
        way: Library and name, without the `+` of what is composed: `numpy.broadcast`.
        quantity: Name of the quantity.
        kernel: Key of the kernel; empty where there is none.
        how: `by hand`, `composed` (per-sample gradients, then the definition), or empty where there is none.
        out: Whether it writes straight into `out=`.
        settings: Settings of the kernel as they stand, `chunk=16384`.
        reason: Why it cannot be used here; empty where it can.
    """

    problem: str
    way: str
    quantity: str
    kernel: str = ""
    how: str = ""
    out: bool = False
    settings: str = ""
    reason: str = ""


def catalogue(
    chosen: Iterable[Kernel], problems: Sequence[Problem], quantities: Sequence[str], dtype: str, device: str
) -> list[CatalogueRow]:
    """Return the ways of `chosen` by problem, then library: each chosen kernel, and each hole in its way.

    Problems of losses have no place for quantities of outputs.

    Args:
        chosen: Kernels.
        problems: What they are asked to differentiate.
        quantities: Names of the quantities.
        dtype: Of inputs and results.
        device: Where to compute.
    """
    members: dict[str, dict[str, Kernel]] = {}
    for kernel in chosen:
        members.setdefault(_way(kernel), {})[kernel.quantity.name] = kernel
    computed = _computed(members)
    return [
        _entry(problem, found, dtype, device) if found else _hole(problem, name, quantity, computed[name])
        for problem in problems
        for name, own in sorted(members.items(), key=lambda item: _order(*item))
        for quantity in quantities
        if problem.is_of_outputs or not QUANTITIES[quantity].of_outputs
        if (found := own.get(quantity)) or quantity not in computed[name]
    ]


def _way(kernel: Kernel) -> str:
    """Return the way of a kernel without the mark of what is composed."""
    return Key.parse(kernel.key).plain_way


def _order(name: str, own: dict[str, Kernel]) -> tuple[int, str]:
    return next(iter(own.values())).backend.preference, name


def _computed(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the quantities that each way computes at all, whatever its settings."""
    by_way: dict[str, list[str]] = {}
    for kernel in kernels():
        by_way.setdefault(_way(kernel), []).append(kernel.quantity.name)
    return {name: by_way.get(name.partition("[")[0], []) for name in names}


def _hole(problem: Problem, name: str, quantity: str, computed: Sequence[str]) -> CatalogueRow:
    *first, last = computed
    names = f"{', '.join(first)} and {last}" if first else last
    says = f"{name} computes {names} only; without per-sample gradients nothing else follows"
    if QUANTITIES[quantity].of_outputs and "per_sample" in computed:
        says = f"{name} is not for torch modules, whose outputs {quantity} is of"
    return CatalogueRow(problem.name, name, quantity, reason=says)


def _entry(problem: Problem, kernel: Kernel, dtype: str, device: str) -> CatalogueRow:
    reasons = kernel.unsupported(Case(problem, kernel.quantity, 1, dtype, device))
    settings = dict(kernel.options) | dict(kernel.set_options)
    return CatalogueRow(
        problem.name,
        _way(kernel),
        kernel.quantity.name,
        kernel.key,
        "composed" if kernel.composed else "by hand",
        kernel.out,
        ",".join(f"{option}={value}" for option, value in settings.items()),
        # The same sentence for every quantity of a way is one reason.
        "; ".join(reasons).replace(kernel.key, _way(kernel)),
    )
