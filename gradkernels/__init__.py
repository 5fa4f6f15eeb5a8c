"""Gradient kernels: the same gradient every way there is, proven equal, timed, and the winner as an import.

    import gradkernels as gk

    p = gk.LinearRegression()
    theta, x, y = p.draw(1000, seed=0)
    gk.gradient(p, theta, x, y)          # gradient of the mean loss
    gk.per_sample(p, theta, x, y)        # (n, p): each sample's own
    k = gk.fastest(p, "per_sample", n=1000)
    k(theta, x, y)                       # the winner, without dispatch

Shapes: `theta` is `(d+1,)` with the intercept first, or `(d,)` without one; `x` is `(n, d)`, or `(n,)` for one
feature; `y` is `(n,)`; per-sample gradients are `(n, *theta.shape)`.

Names load at their first use, so that importing this package costs next to nothing; torch, JAX and the harness
load only when a kernel or a command needs them.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkernels.batches.over import over as over
    from gradkernels.bench.api.race_functions import race_functions as race_functions
    from gradkernels.bench.api.results import Results as Results
    from gradkernels.bench.api.run import compare as compare
    from gradkernels.bench.api.run import run as run
    from gradkernels.bench.race.race import race as race
    from gradkernels.case import Case as Case
    from gradkernels.check import Disagreement as Disagreement
    from gradkernels.check import check as check
    from gradkernels.dispatch.audit import audit as audit
    from gradkernels.fastest import clipped_sum as clipped_sum
    from gradkernels.fastest import fastest as fastest
    from gradkernels.fastest import gradient as gradient
    from gradkernels.fastest import gram as gram
    from gradkernels.fastest import group_sums as group_sums
    from gradkernels.fastest import inner as inner
    from gradkernels.fastest import jacobian as jacobian
    from gradkernels.fastest import moments as moments
    from gradkernels.fastest import norms as norms
    from gradkernels.fastest import outer as outer
    from gradkernels.fastest import per_sample as per_sample
    from gradkernels.fastest import project as project
    from gradkernels.fastest import together as together
    from gradkernels.fastest import weighted_sum as weighted_sum
    from gradkernels.fastest.flat_rows import flat as flat
    from gradkernels.fastest.odd_gradients import NonFiniteWarning as NonFiniteWarning
    from gradkernels.fastest.rows import rows as rows
    from gradkernels.kernel import Kernel as Kernel
    from gradkernels.kernel import declare as declare
    from gradkernels.memory.results import release as release
    from gradkernels.problems import HuberRegression as HuberRegression
    from gradkernels.problems import LinearRegression as LinearRegression
    from gradkernels.problems import LogisticRegression as LogisticRegression
    from gradkernels.problems import PoissonRegression as PoissonRegression
    from gradkernels.problems import SoftmaxRegression as SoftmaxRegression
    from gradkernels.problems.function.function_problem import FunctionProblem as FunctionProblem
    from gradkernels.problems.module.mixing.batch_loss import MixingWarning as MixingWarning
    from gradkernels.problems.module.module_problem import ModuleProblem as ModuleProblem
    from gradkernels.quantity import Moments as Moments
    from gradkernels.registry import kernel as kernel
    from gradkernels.registry import kernels as kernels
    from gradkernels.scale.cluster import cluster as cluster
    from gradkernels.scale.files import open as open
    from gradkernels.streaming import per_sample_chunks as per_sample_chunks
    from gradkernels.tool_audit.audit import audit_tool as audit_tool
    from gradkernels.watch import CannotWatch as CannotWatch
    from gradkernels.watch import watch as watch

__version__ = "0.1.0"

_HOME = {
    "dispatch.audit": ("audit",),
    "batches.over": ("over",),
    "bench.api.race_functions": ("race_functions",),
    "bench.api.results": ("Results",),
    "bench.api.run": ("compare", "run"),
    "bench.race.race": ("race",),
    "case": ("Case",),
    "check": ("Disagreement", "check"),
    "fastest.odd_gradients": ("NonFiniteWarning",),
    "fastest.flat_rows": ("flat",),
    "fastest.rows": ("rows",),
    "fastest": (
        "clipped_sum",
        "fastest",
        "gradient",
        "gram",
        "group_sums",
        "inner",
        "jacobian",
        "moments",
        "norms",
        "outer",
        "per_sample",
        "project",
        "together",
        "weighted_sum",
    ),
    "kernel": ("Kernel", "declare"),
    "memory.results": ("release",),
    "problems": (
        "HuberRegression",
        "LinearRegression",
        "LogisticRegression",
        "PoissonRegression",
        "SoftmaxRegression",
    ),
    "problems.function.function_problem": ("FunctionProblem",),
    "problems.module.mixing.batch_loss": ("MixingWarning",),
    "problems.module.module_problem": ("ModuleProblem",),
    "quantity": ("Moments",),
    "registry": ("kernel", "kernels"),
    "scale.cluster": ("cluster",),
    "scale.files": ("open",),
    "streaming": ("per_sample_chunks",),
    "tool_audit.audit": ("audit_tool",),
    "watch": ("CannotWatch", "watch"),
}
_MODULE = {name: f"{__name__}.{module}" for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE.keys() - {"open"})  # with `import *`, Python's own would be lost


class _Package(ModuleType):
    """A package in which a name that is both a function and a submodule means the function.

    Importing a submodule sets it as an attribute of its package, which would turn `gk.fastest` into a module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "zoo":
        return import_module(f"{__name__}.zoo")
    if name not in _MODULE:
        if not name.startswith("_") and name in import_module(f"{__name__}.quantity").QUANTITIES:
            value = globals()[name] = import_module(f"{__name__}.fastest.compute").function_of(name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(import_module(_MODULE[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__name__):
            raise
        extra = "dask" if ".scale." in _MODULE[name] else "bench"
        raise ModuleNotFoundError(f"gk.{name} needs {error.name}: pip install 'gradkernels[{extra}]'") from error
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", "open", "zoo", *__all__])
