"""`gk.audit_tool`: the trials of one tool on one problem and batch, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.check.modules.result_checks import coarsest_dtype
from gradkernels.fastest.flat_rows import FlatLayout
from gradkernels.problems import BlackBox, Problem
from gradkernels.tool_audit.audit_trial import AuditTrial, Outcome
from gradkernels.tool_audit.clean_copy import clean_copy
from gradkernels.tool_audit.report import AuditReport
from gradkernels.tool_audit.tool_calls import Tool, copied_array
from gradkernels.tool_audit.tools.named_tools import NamedTool, named_tool
from gradkernels.tool_audit.tools.set_ups import USUAL_DTYPES
from gradkernels.tool_audit.trials import Subject, batch_trials, further_trials
from gradkernels.tree import Tree, count, each, leaves
from gradkernels.validate import dtype_of, validate_inputs, validate_problem

MOST_KNOWN_BYTES = 2**31
"""Of the float64 rows of a batch; an audit keeps a few of them."""

RANDOM = (
    "the problem has randomness={!r}, and no tool draws the same random numbers as the passes that its rows are held "
    "against; call model.eval() and leave randomness out"
)


def audit_tool(
    f: Callable[..., Any] | str,
    problem: Problem,
    data: Sequence[Tree],
    *,
    name: str | None = None,
    dtypes: Sequence[str] = USUAL_DTYPES,
    packages: Sequence[str] = (),
) -> AuditReport:
    """Prove somebody else's per-sample gradients on one's own model and batch.

    Rows are those of `gk.per_sample`, each held against a backward pass for its sample, in float64: for the batch and
    again, other orders, numbers and lengths of samples, other parameters and dtypes. The model is left as it was.

    Args:
        f: `f(x, y)` for data `(x, y)`, which differentiates by the parameters of `problem.model`; `f(theta, x, y)` for
            data `(theta, x, y)`. It returns a dict from names of parameters to `(n, *shape)`, a list of these in
            the order of parameters, or one array `(n, P)`. Or the name of a set-up: `opacus`, `backpack`, `vmap`,
            `expanded_weights` and others, of a copy of the model.
        problem: The model and its loss, or a regression.
        data: `(x, y)` or `(theta, x, y)`, samples first.
        name: Of the tool, in the report; None for the function's own.
        dtypes: Dtypes to try besides that of the parameters, where the model takes them.
        packages: Names of distributions whose versions the report is to have.

    Returns:
        What came of each trial; `report.ok`, and `print(report)`, `report.to_json()` or `report.to_html()`.

    Raises:
        TypeError: It is no function, no Problem, or no such data.
        ValueError: The samples have no gradients of their own, or draw random numbers; there is no such set-up.
    """
    validate_problem(problem)
    made = named_tool(f, problem) if isinstance(f, str) else None
    if made is not None:
        name, packages, (f, problem) = name or made.name, (made.package, *packages), made.set_up()
    subject = _subject(f, problem, data, name, made)
    return _report(subject, _trials(subject, tuple(dtypes)), packages)


def _trials(subject: Subject, dtypes: tuple[str, ...]) -> list[AuditTrial]:
    """Make every trial; further ones only where the batch itself came out right."""
    with _held(subject.tool.problem), _held(subject.clean):
        known = subject.known()
        trials = list(batch_trials(subject, known))
        if Outcome.raised in {trial.outcome for trial in trials}:  # which may have left a tool unusable
            subject = replace(subject, tool=subject.tool.renewed())
        if trials[0].outcome is Outcome.ok:
            trials += further_trials(subject, dtypes)
    return trials


def _subject(f: Any, problem: Any, data: Any, name: str | None, made: NamedTool | None) -> Subject:
    """Make the subject of what was given, once it fits together."""
    if not callable(f):
        raise TypeError(f"f is a {type(f).__name__}; give a function f(x, y), or f(theta, x, y) with theta in the data")
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise TypeError("data must be a tuple (x, y), or (theta, x, y) for a function that takes parameters")
    if problem.randomness != "error":
        raise ValueError(RANDOM.format(problem.randomness))
    takes_theta = len(data) == 3
    theta, x, y = problem.as_inputs(*(data if takes_theta else (None, *data)))
    if takes_theta and isinstance(problem, BlackBox):
        theta = problem.chosen(problem.parameters() if theta is None else theta)
    validate_inputs(problem, theta, x, y)
    if not count(y):
        raise ValueError("there is no sample in the data; give at least one, and more to tell their order")
    named = theta if isinstance(theta, dict) else {"": theta}
    layout = FlatLayout({key: tuple(part.shape) for key, part in named.items()})
    if count(y) * len(layout) * 8 > MOST_KNOWN_BYTES:
        most = MOST_KNOWN_BYTES // (8 * len(layout))
        raise ValueError(
            f"{count(y)} rows of {len(layout):,} entries are too much to hold; give {most} samples or fewer"
        )
    theta = each(copied_array, theta)  # what is known must not change with the model
    dtype = coarsest_dtype(theta) if isinstance(problem, BlackBox) else dtype_of(leaves(theta)[0])
    tool = Tool(name or _name_of(f), f, problem, takes_theta, made.set_up if made else None)
    return Subject(tool, clean_copy(made.problem if made else problem), theta, x, y, layout, dtype)


def _name_of(f: Any) -> str:
    return getattr(f, "__qualname__", None) or type(f).__name__


@contextmanager
def _held(problem: Problem) -> Iterator[None]:
    """Hold a problem's restriction to some parameters, and be quiet about numbers that overflow."""
    holding: AbstractContextManager[Any] = problem.holding() if isinstance(problem, BlackBox) else nullcontext()
    with holding, np.errstate(all="ignore"):
        yield


def _report(subject: Subject, trials: list[AuditTrial], packages: Sequence[str]) -> AuditReport:
    library = backend_of(leaves(subject.theta)[0])
    names = [*packages, *([library.name] if library else [])]
    return AuditReport(
        tool=subject.tool.name,
        problem=subject.clean.name,
        n=count(subject.y),
        parameters=len(subject.layout.shapes),
        entries=len(subject.layout),
        dtype=subject.dtype,
        versions={name: found for name in names if (found := _version(name))},
        trials=tuple(trials),
        left=tuple(subject.tool.left),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
