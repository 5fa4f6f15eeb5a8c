"""The calls of a caller's model: told when one begins and ends, whoever calls it, by hooks that leave with the watch.

A compiled model is called as it is, but for the calls that are looked at: these run without the compiler, which shows
no call of a torch function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.problems.module.structure import Module
from gradkernels.watch.errors import CannotWatch

Begin = Callable[[tuple[Any, ...], dict[str, Any]], None]
End = Callable[[Any], Any]

NO_TENSORS = (
    "the model's output holds a {kind}, in which no tensor is found, so that no gradient of a sample would be heard: "
    "return tensors, or tuples, lists or dicts of them"
)
PLAIN = (type(None), bool, int, float, complex, str, bytes)
COMPILED_AFTERWARDS = (
    "torch.compile was given a model that is watched already, and with it the hooks that follow its calls: compile "
    "first, and watch or make private what torch.compile returns"
)


def watched_module(model: Any) -> Module:
    """Return the module whose parameters are watched: behind a compiled or a distributed one."""
    called = called_module(model)
    return watched_module(called._orig_mod) if hasattr(called, "_orig_mod") else called


def called_module(model: Any) -> Module:
    """Return the module whose calls are watched: in a process, with its compiler around it.

    Raises:
        CannotWatch: It is no module, or replicas of it are called in threads of their own.
    """
    if not isinstance(model, torch.nn.Module):
        raise CannotWatch(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
    if isinstance(model, torch.nn.DataParallel):
        if len(model.device_ids) > 1:
            raise CannotWatch(
                "DataParallel calls replicas of the model, whose parameters are copies that nobody can follow: watch "
                "a model on one device, or DistributedDataParallel's own module in each process"
            )
        return called_module(model.module)
    return called_module(model.module) if is_distributed(model) else model


def is_distributed(model: Any) -> bool:
    """Return whether gradients of the model are averaged over processes."""
    return isinstance(getattr(model, "_orig_mod", model), torch.nn.parallel.DistributedDataParallel)


def tensors_of(output: Any) -> list[Array]:
    """Return the tensors of a model's output; raise a CannotWatch if it has none, and objects that may hold some."""
    leaves = pytree.tree_leaves(output)
    outputs = [one for one in leaves if isinstance(one, torch.Tensor)]
    if not outputs and (others := [one for one in leaves if not isinstance(one, PLAIN)]):
        raise CannotWatch(NO_TENSORS.format(kind=type(others[0]).__name__))
    return outputs


def without_compiler() -> AbstractContextManager[Any]:
    """Return a context in which nothing is compiled, if anything may be."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    if torch.compiler.is_compiling():  # the compiler traces a hook of ours: it runs it as it is when this is raised
        raise CannotWatch(COMPILED_AFTERWARDS)
    try:
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    except RuntimeError as error:  # within what is compiled
        raise CannotWatch(COMPILED_AFTERWARDS) from error
    return stance


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    """Take the place of a hook in a copy of the model."""


def _nothing() -> Callable[..., None]:
    return _do_nothing


class _Hook:
    """A hook that copies and pickles of the model do not have."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._call(*args, **kwargs)

    def __reduce__(self) -> Any:
        """Reduce to a hook that does nothing."""
        return _nothing, ()


class ModelCalls:
    """Tells of the calls of a model that its caller makes, not of those that it makes itself.

    Args:
        model: As the caller calls it.
        begin: Called with a call's arguments.
        end: Called with its output; with None where it raised. What it gives takes the output's place, unless that is
            None.
    """

    def __init__(self, model: Module, begin: Begin, end: End) -> None:
        self._depth, self._begin, self._end = 0, begin, end
        self._called, self._handles = called_module(model), list[Any]()
        self._compiled = self._called.__dict__.get("_compiled_call_impl")
        if self._compiled is not None:  # its hooks would be compiled with it
            self._called._compiled_call_impl = self._around_compiled
            return
        self._handles = [
            self._called.register_forward_pre_hook(_Hook(self._before), with_kwargs=True, prepend=True),
            self._called.register_forward_hook(_Hook(self._after), with_kwargs=True, always_call=True),
        ]

    def _around_compiled(self, *args: Any, **kwargs: Any) -> Any:
        """Call a module that is compiled in place."""
        output = None
        try:
            self._before(self._called, args, kwargs)
            output = self._compiled(*args, **kwargs)
        finally:
            instead = self._after(self._called, args, kwargs, output)
        return output if instead is None else instead

    @property
    def can_be_repeated(self) -> bool:
        """Whether a call's output follows from the arguments by the module's own forward function alone."""
        called = self._called
        return self._compiled is None and len(called._forward_pre_hooks) == len(called._forward_hooks) == 1

    def repeat(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the output of another call with the same arguments, of which nobody is told."""
        return self._called.forward(*args, **kwargs)

    def _before(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth == 1:
            self._begin(args, kwargs)

    def _after(self, module: Module, args: Any, kwargs: Any, output: Any) -> Any:
        self._depth -= 1
        return None if self._depth else self._end(output)

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        if self._compiled is not None:
            self._called._compiled_call_impl = self._compiled
