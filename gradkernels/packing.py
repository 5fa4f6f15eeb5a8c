"""Bound kernels travel to other processes (joblib, spawn): as the kernel's key and its problem, bound anew there.

What a kernel was built to, closures and compiled code, stays behind. There it is proven again: for a regression when
it arrives, for a module on the data of the first call, since nothing else is known of them.
"""

from __future__ import annotations

import copyreg
from dataclasses import replace
from typing import Any

from gradkernels.binding import Bound, bind
from gradkernels.choice import Choice, Request
from gradkernels.kernel import Kernel
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree


def _packed(bound: Bound) -> tuple[Any, ...]:
    return _unpacked, (bound.request, bound.kernel, bound.choice)


def _unpacked(request: Request, kernel: Kernel, choice: Choice | None) -> Bound:
    bound = Bound(_at_first_call(request, kernel)) if request.case.problem.opaque else bind(request, kernel)
    bound.kernel, bound.request, bound.choice = kernel, request, choice
    return bound


def _at_first_call(request: Request, kernel: Kernel) -> Any:
    """What binds the kernel when it is first called, on the data that it is called with."""
    problem, ready = request.case.problem, list[Bound]()

    def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        if not ready:
            arrays = (problem.own() if theta is None else theta, x, y)
            ready.append(bind(replace(request, arrays=arrays), kernel))
        return ready[0](theta, x, y, *arguments, **options)

    return call


def _by_key(kernel: Kernel) -> str | tuple[Any, ...]:
    """A registered kernel by its key; another one as pickle would, which may find that it cannot."""
    try:
        registered = kernel_by_key(kernel.key) == kernel
    except ValueError:
        registered = False
    return (kernel_by_key, (kernel.key,)) if registered else object.__reduce_ex__(kernel, 2)


copyreg.pickle(Bound, _packed)
copyreg.pickle(Kernel, _by_key)
