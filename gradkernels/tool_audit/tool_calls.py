"""Calls of a tool as its users call it, with data of their own; what it may not change is looked at afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.problems import BlackBox, Problem
from gradkernels.problems.module.conversion import as_numpy
from gradkernels.problems.module.inputs import unfolded
from gradkernels.tool_audit.left_behind import call_state, left_behind
from gradkernels.tool_audit.result_forms import Misfit
from gradkernels.tree import Tree, each, named


@dataclass(frozen=True)
class Tool:
    """What is audited.

    Attributes:
        name: Of it, for the report.
        call: `f(x, y)`, or `f(theta, x, y)`.
        problem: The model and loss that it differentiates.
        takes_theta: Whether it is called with parameters.
        renew: Makes it anew, with another copy of the model, after an exception; None where it cannot be.
        left: What it has left otherwise than it was, in the order of its calls; a dict without values.
    """

    name: str
    call: Callable[..., Any]
    problem: Problem
    takes_theta: bool
    renew: Callable[[], tuple[Callable[..., Any], Problem]] | None = None
    left: dict[str, None] = field(default_factory=dict)

    def __call__(self, theta: Tree, x: Tree, y: Tree) -> Any:
        """Call it with copies of the arrays.

        Args:
            theta: Parameters; not passed on where it takes none.
            x: Inputs, prepared.
            y: Targets, prepared.

        Raises:
            Misfit: It has changed its data, or the model's parameters.
            Exception: Whatever it raises.
        """
        given = each(copied_array, (theta, x, y) if self.takes_theta else (x, y))
        asked = (theta, x, y) if self.takes_theta else (x, y)
        before, around = each(copied_array, self._own()), call_state(self.problem)
        with warnings.catch_warnings(), _with_graph(self.problem):
            warnings.simplefilter("ignore")  # a tool's own are no matter of whether it is right
            shaped = (self._nested(given[0]), *given[1:]) if self.takes_theta else given
            try:
                result = self._by_name(self.call(*map(unfolded, shaped)))
            except SystemExit as error:  # which would end the audit, as if nothing were wrong
                raise RuntimeError(f"SystemExit: {error}") from error
            finally:
                self.left.update(dict.fromkeys(left_behind(around, call_state(self.problem))))
        names = ("theta", "x", "y")[-len(asked) :]
        for name, was, now in zip(names, asked, given, strict=True):
            _require_same(name, was, now, "its input ")
        _require_same("", before, self._own(), "the model's parameter ")
        return result

    def _nested(self, theta: Tree) -> Any:
        """Return parameters as a caller's function takes them: for a function of JAX in the structure of its params."""
        problem: Any = self.problem
        return problem.layout.nested(theta, constants=True) if self._is_function else theta

    def _by_name(self, result: Any) -> Any:
        """Return a result of that structure by name, and any other as it is."""
        problem: Any = self.problem
        try:
            return problem.layout.flat(result, "the result") if self._is_function else result
        except (TypeError, ValueError):  # another form, which is looked at as such
            return result

    @property
    def _is_function(self) -> bool:
        return self.problem.is_black_box and not isinstance(self.problem, BlackBox)

    def renewed(self) -> Tool:
        """Return the same, made anew where it can be."""
        if self.renew is None:
            return self
        call, problem = self.renew()
        return replace(self, call=call, problem=problem)

    def _own(self) -> Tree:
        return self.problem.parameters() if isinstance(self.problem, BlackBox) else ()


def copied_array(array: Any) -> Any:
    """Copy an array of any library; those that cannot be written to are themselves."""
    if hasattr(array, "detach"):
        return array.detach().clone()
    return array.copy() if isinstance(array, np.ndarray) else array


def plain(array: Any) -> Any:
    """Return an array of any library as numpy's, half precision as float32."""
    if hasattr(array, "detach"):
        return as_numpy(array)
    library = backend_of(array)
    return library.get(array) if library else np.asarray(array)


def first_line_of(error: BaseException) -> str:
    """Return the kind of an exception and the first line of what it says."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _with_graph(problem: Problem) -> AbstractContextManager[Any]:
    if not isinstance(problem, BlackBox):
        return nullcontext()
    import torch

    return torch.enable_grad()


def _require_same(name: str, before: Tree, now: Tree, what: str) -> None:
    after = dict(named(name, now))
    for place, was in named(name, before):
        if place not in after or not _same(plain(was), plain(after[place])):
            raise Misfit(f"changed {what}{place}")


def _same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
