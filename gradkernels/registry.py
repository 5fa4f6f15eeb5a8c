"""The one list of kernels, which the API, the tests, the benchmarks and the error messages read."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any

from gradkernels.kernel import Kernel, compose
from gradkernels.kernels import __name__ as group
from gradkernels.kernels import __path__ as folders
from gradkernels.key import Key
from gradkernels.names import pick
from gradkernels.problems import Problem
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantity import QUANTITIES, Quantity, quantity
from gradkernels.validate import validate_problem


def kernels(problem: Problem | None = None, quantity: str | Quantity | None = None) -> tuple[Kernel, ...]:
    """Return every kernel, declared and composed; those for one problem or quantity if they are given.

    Kernels whose library is missing are listed too: `kernel.unsupported(case)` gives the reasons.
    """
    if problem is not None:
        validate_problem(problem)
    wanted = None if quantity is None else _quantity(quantity)
    return tuple(
        kernel
        for kernel in _all().values()
        if (wanted is None or kernel.quantity == wanted) and (problem is None or kernel.accepts(problem))
    )


def kernel(key: str) -> Kernel:
    """Return the kernel called `backend.name.quantity`, for instance `numpy.broadcast.per_sample`.

    Settings go in brackets: `torch.vmap[chunk=512].per_sample`.

    Raises:
        ValueError: No kernel has that key; the message lists near names.
    """
    parsed = Key.parse(key)
    found: Kernel = pick(_all(), str(replace(parsed, settings="")), "kernel")
    return found.with_options(parsed.options()) if parsed.settings else found


_quantity = quantity


@lru_cache(maxsize=1)
def _all() -> dict[str, Kernel]:
    ways = _declared()
    declared = list(ways.values())
    composed = [
        compose(kernel, quantity)
        for kernel in declared
        if kernel.quantity.name == "per_sample"
        for quantity in QUANTITIES.values()
        if f"{kernel.way}.{quantity.name}" not in ways and can_have(kernel, quantity)
    ]
    order = list(QUANTITIES)
    both = sorted(declared + composed, key=lambda k: (order.index(k.quantity.name), k.preference, k.key))
    return {kernel.key: kernel for kernel in both}


def can_have(rows: Kernel, quantity: Quantity) -> bool:
    """Tell whether a way of per-sample gradients can have a quantity at all: one of outputs if it is for modules.

    Args:
        rows: The way.
        quantity: What would be composed of it.
    """
    of_modules = rows.backend.arrays.name in ModuleProblem.libraries and issubclass(ModuleProblem, rows.problems)
    return of_modules or not quantity.of_outputs


def _declared() -> dict[str, Kernel]:
    """Return declared kernels by key; a ValueError if two different ones share a key."""
    found: dict[str, Kernel] = {}
    for module in pkgutil.iter_modules(folders):
        _add(found, importlib.import_module(f"{group}.{module.name}"))
    from importlib.metadata import entry_points

    for entry in entry_points(group=group):
        with_others = dict(found)
        try:
            _add(with_others, entry.load())
        except (Exception, SystemExit) as fault:  # another package's code may raise anything
            package = entry.dist.name if entry.dist else "another package"
            warnings.warn(
                f"the kernels of {package} are left out: its entry point {entry.name!r} = {entry.value!r} raised "
                f"{type(fault).__name__}: {fault}; correct or uninstall {package}",
                stacklevel=2,
            )
        else:
            found = with_others
    return found


def _add(found: dict[str, Kernel], module: Any) -> None:
    if not isinstance(module, ModuleType):
        raise TypeError(f"it names a {type(module).__name__}; it must name a module with kernels")
    for kernel in vars(module).values():
        if isinstance(kernel, Kernel) and (other := found.setdefault(kernel.key, kernel)) is not kernel:
            places = f"{other.builder.__module__} and {kernel.builder.__module__}"
            raise ValueError(f"{places} both declare {kernel.key}; rename one")
