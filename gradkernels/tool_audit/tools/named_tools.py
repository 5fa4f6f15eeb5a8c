"""What makes a named set-up for a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from gradkernels.names import pick
from gradkernels.problems import BlackBox, FunctionProblem, Problem
from gradkernels.tool_audit.clean_copy import clean_copy
from gradkernels.tool_audit.tools.set_ups import SET_UPS, SetUp

ROOM = "gradkernels.tool_audit.tools"


@dataclass(frozen=True)
class NamedTool:
    """A set-up of a library for a problem.

    Attributes:
        name: Of the set-up.
        package: Name of the distribution.
        problem: Whose model is copied for it.
    """

    name: str
    package: str
    problem: Problem

    def set_up(self) -> tuple[Callable[..., Any], Problem]:
        """Return a function `f(x, y)`, and the problem that it differentiates: of a model, with a copy of it.

        Raises:
            ValueError: The model cannot be copied.
        """
        copied = clean_copy(self.problem)
        if copied is self.problem and isinstance(copied, BlackBox):
            says = f"the model cannot be copied, and {self.name} would change it"
            raise ValueError(f"{says}; give the audit a function f(x, y) instead of a name")
        module, _, function = SET_UPS[self.name].where.partition(":")
        return _Lazy(getattr(import_module(f"{ROOM}.{module}"), function), copied), copied


def named_tool(name: str, problem: Problem) -> NamedTool:
    """Return what makes the set-up of a name for a problem.

    Args:
        name: Of the set-up.
        problem: Of a module, or of a function of JAX where the library is one for these.

    Raises:
        ValueError: There is no such set-up, its library is not installed, or the problem is of the other kind.
    """
    found: SetUp = pick(SET_UPS, name, "tool")
    if find_spec(found.imported) is None:
        raise ValueError(f"the tool {name} needs {found.imported}, which is not installed: pip install {found.package}")
    if found.of_functions and not isinstance(problem, FunctionProblem):
        says = f"the tool {name} differentiates functions of JAX; {problem.name} is none"
        raise ValueError(f"{says}: give a FunctionProblem")
    if not found.of_functions and not isinstance(problem, BlackBox):
        raise ValueError(f"the tool {name} differentiates models; {problem.name} is none, give a ModuleProblem")
    return NamedTool(name, found.package, problem)


class _Lazy:
    """A set-up that is made at the first call: what it raises is what comes of that trial."""

    def __init__(self, make: Callable[[Problem], Callable[..., Any]], problem: Problem) -> None:
        self._make, self._problem = make, problem

    def __call__(self, *data: Any) -> Any:
        return self._rows(*data)

    @cached_property
    def _rows(self) -> Callable[..., Any]:
        return self._make(self._problem)
