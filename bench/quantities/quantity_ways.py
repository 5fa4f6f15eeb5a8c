"""The ways of the suite: the library's own calls, and those of other libraries, one list for both."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import gradkernels as gk
from gradkernels.case import Case

DEFAULT = "gradkernels"
"""What a user gets who names no kernel."""


@dataclass(frozen=True)
class Setting:
    """What a way is built for.

    Attributes:
        problem: The model and its loss, or the regression.
        ask: What is asked.
        theta: Parameters: of a regression an array, None for a model's own.
        x: Inputs, tensors; of a regression numpy arrays.
        y: Targets.
        n: Number of samples.
        options: Of the call, as the library's function takes them.
    """

    problem: Any
    ask: Any
    theta: Any
    x: Any
    y: Any
    n: int
    options: dict[str, Any]

    def copied(self):
        """Return the problem with a copy of its model, that a library may hook or wrap."""
        return replace(self.problem, model=copy.deepcopy(self.problem.model), example=None)

    def case(self, quantity="per_sample"):
        """Return the case that kernels of other libraries are asked about."""
        return Case(self.problem, quantity, self.n, "float64" if self.ask.regression else "float32")


@dataclass(frozen=True)
class Way:
    """One way to compute what is asked.

    Attributes:
        name: As rows of the file have it.
        package: Whose it is, on the package index.
        module: What has to be importable.
        asks: Labels of what it computes.
        build: `build(Setting)` returns a function without arguments; it may raise a reason why not.
        projects: Whether its random matrices are its own, so that only inner products can be compared.
    """

    name: str
    package: str
    module: str
    asks: tuple[str, ...]
    build: Callable[[Setting], Callable[[], Any]]
    projects: bool = False

    @property
    def is_ours(self):
        """Whether it is this library's."""
        return self.package == "gradkernels"

    @property
    def missing(self):
        """Whether its library is not installed."""
        return find_spec(self.module) is None

    @property
    def version(self):
        """`torchjd 0.18.0`; nothing where it is missing."""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return ""


@dataclass(frozen=True)
class Mapped:
    """A call with matrices of its own, of which can be told what it must return.

    Attributes:
        call: Without arguments.
        parts: `parts(truth, at, result)`, the parts of the result.
    """

    call: Callable[[], Any]
    parts: Callable[[Any, Any, Any], list[Any]]

    def __call__(self):
        """Compute."""
        return self.call()


class Refused(Exception):
    """A way cannot do what is asked; the message says why."""


PEERS: list[Way] = []
"""Ways of other libraries, in the order in which their modules are imported."""


def peer(name, package, *asks, module=None, projects=False):
    """Return a decorator that puts a builder into PEERS.

    Args:
        name: Of the way.
        package: Its library on the package index.
        asks: Labels of what it computes.
        module: What is imported; by default as the package is called.
        projects: Whether its random matrices are its own.
    """

    def listed(build):
        PEERS.append(Way(name, package, module or package, asks, build, projects))
        return build

    return listed


def own_ways(problem, ask):
    """Return the default call, and one for each kernel of ours that is a way of its own and compiles nothing.

    Args:
        problem: What is differentiated.
        ask: What is asked.
    """
    found = gk.kernels(problem, ask.computed_as or ask.quantity)
    names = dict.fromkeys(kernel.way for kernel in found if _is_own(kernel))
    return [
        Way(name, "gradkernels", "gradkernels", (ask.label,), partial(_call, None if name == DEFAULT else name))
        for name in (DEFAULT, *names)
    ]


def _is_own(kernel):
    theirs = ("opacus", "backpack", "jax", "sklearn", "statsmodels")
    slow = kernel.name in ("vmap", "loop", "jacobian", "broadcast")
    return not (kernel.composed or kernel.loops or kernel.compiles or slow or kernel.backend.name in theirs)


def _call(kernel, setting):
    function = getattr(gk, setting.ask.quantity)
    more = {} if kernel is None else {"kernel": kernel}
    return partial(function, setting.problem, setting.theta, setting.x, setting.y, **setting.options, **more)


def peers_of(ask):
    """Return the ways of other libraries for what is asked."""
    return [way for way in PEERS if ask.label in way.asks]
