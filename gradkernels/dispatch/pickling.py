"""Bound kernels travel to other processes (joblib, spawn): as the kernel's key and its problem, bound anew there.

What a kernel was built to, closures and compiled code, stays behind. There it is proven again: for a regression when
it arrives, for a module on the data of the first call, since nothing else is known of them.
"""

from __future__ import annotations

import copyreg
from dataclasses import replace
from typing import Any

from gradkernels.dispatch.bind import BoundKernel, BoundModuleKernel, bind, dispatcher_for
from gradkernels.dispatch.dispatcher import ModuleDispatcher
from gradkernels.dispatch.functions.dispatcher import FunctionDispatcher
from gradkernels.dispatch.request import Request
from gradkernels.dispatch.select import Choice
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems import ExampleProblem
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree


def _packed(bound: BoundKernel[Any]) -> tuple[Any, ...]:
    return _unpacked, (bound.request, bound.kernel, bound.choice)


def _unpacked(request: Request, kernel: Kernel, choice: Choice | None) -> BoundKernel[Any]:
    again, of_module = _naming(request, kernel), isinstance(request.case.problem, ExampleProblem)
    bound: BoundKernel[Any] = BoundKernel(_unaudited(dispatcher_for(again))) if of_module else bind(again)
    bound.kernel, bound.request, bound.choice = kernel, request, choice
    return bound


def _unaudited(dispatcher: ModuleDispatcher | FunctionDispatcher) -> Compute:
    """Return what proves a module's kernel on the data of the first call, and then computes by it alone."""
    proven: list[Compute] = []

    def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        if not proven:
            dispatcher.prepare(theta, x, y)
            proven.append(dispatcher.bare())
        return proven[0](theta, x, y, *arguments, **options)

    return call


def _packed_of_module(bound: BoundModuleKernel[Any]) -> tuple[Any, ...]:
    forced = bound.kernel if bound.choice is None else None
    return _unpacked_of_module, (_naming(bound.request, forced),)


def _unpacked_of_module(request: Request) -> BoundModuleKernel[Any]:
    """Bind again; chosen and proven on the data of the first call, since nothing else is known of them."""
    bound: BoundModuleKernel[Any] = BoundModuleKernel(dispatcher_for(request))
    bound.request = request
    return bound


def _naming(request: Request, kernel: Kernel | None) -> Request:
    return replace(request, criteria=replace(request.criteria, kernel=kernel))


def _by_key(kernel: Kernel) -> str | tuple[Any, ...]:
    """Pickle a registered kernel by its key; another one as pickle would, which may find that it cannot."""
    try:
        registered = kernel_by_key(kernel.key) == kernel
    except ValueError:
        registered = False
    return (kernel_by_key, (kernel.key,)) if registered else object.__reduce_ex__(kernel, 2)


copyreg.pickle(BoundKernel, _packed)
copyreg.pickle(BoundModuleKernel, _packed_of_module)
copyreg.pickle(Kernel, _by_key)
