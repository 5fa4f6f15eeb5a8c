"""`gradkernels audit`: the per-sample gradients of another library, or of a function in a file, held to the truth."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from gradkernels.bench.cli import file_options, options, parse
from gradkernels.bench.cli.files import import_from_here, require_free, write_whole
from gradkernels.bench.cli.options import Format
from gradkernels.bench.isolation.errors import describe_fault
from gradkernels.bench.run.own_code import module_of
from gradkernels.bench.run.plan import problem_from
from gradkernels.names import pick, split_names
from gradkernels.problems import BlackBox, FunctionProblem, Problem
from gradkernels.tool_audit.audit import audit_tool
from gradkernels.tool_audit.report import AuditReport
from gradkernels.tool_audit.tools.named_tools import named_tool
from gradkernels.tool_audit.tools.set_ups import SET_UPS, USUAL_DTYPES
from gradkernels.tree import Tree, count, take

AUDITED_SAMPLES = 16
DEFAULT_DTYPES = ",".join(USUAL_DTYPES)
MOST_ARGUMENTS = 3
WRITERS: dict[str, Callable[[AuditReport], str]] = {
    ".html": AuditReport.to_html,
    ".htm": AuditReport.to_html,
    ".json": AuditReport.to_json,
    ".txt": str,
}

PRINTED: dict[Format, Callable[[AuditReport], str]] = {Format.table: str, Format.json: AuditReport.to_json}


def audit(
    function: options.AuditedFunction = None,
    problem: options.ProblemName = "linear",
    tool: options.AuditedTool = None,
    samples: options.AuditedSamples = AUDITED_SAMPLES,
    seed: options.DataSeed = 0,
    dtype: options.AuditedDtypes = DEFAULT_DTYPES,
    out: options.AuditOut = None,
    force: file_options.ReplaceMade = False,
    format_: options.Printed = Format.table,
) -> int:
    """Prove per-sample gradients of another library, or of a function of your own, on a problem and its data.

    Each row is held against a backward pass for its sample, in float64: for the batch, again, in other orders and
    sizes, with other lengths, parameters and dtypes. The first wrong parameter and sample are named.

    Exit codes: 0 no row is wrong; 1 one is, or the batch gave none; 2 bad usage or bad input.
    """
    import_from_here()
    if (function is None) == (tool is None):
        raise ValueError("name a function, as in rows.py:rows, or a library by --tool; one of both")
    writer = parse.chosen_writer(format_, PRINTED)
    if out is not None:
        if out.suffix.lower() not in WRITERS:
            raise ValueError(f"--out {out}: a report ends in {', '.join(WRITERS)}; name a file that does")
        require_free("--out", out, force)
    chosen = problem_from(problem)
    audited = named_tool(tool, chosen).name if tool else _function(function or "", chosen)
    report = _report(audited, chosen, _data(audited, chosen, samples, seed), function or tool, split_names(dtype))
    if out is not None:
        write_whole(out, WRITERS[out.suffix.lower()](report).encode(errors="replace"))
    sys.stdout.write(writer(report))
    if out is not None:
        print(f"written: {out}", file=sys.stdout if format_ is Format.table else sys.stderr)
    return 0 if report.ok else 1


def _report(audited: Any, problem: Problem, data: Any, name: str | None, dtypes: list[str]) -> AuditReport:
    """Make the audit; whatever a caller's model raises where it is called without a tool is one sentence.

    Args:
        audited: A function, or the name of a set-up.
        problem: The model and its loss.
        data: What the function is called with.
        name: Of the tool.
        dtypes: To try.
    """
    for one in dtypes:
        pick(dict.fromkeys(("float64", "float32", "float16", "bfloat16")), one, "dtype")
    try:
        with redirect_stdout(sys.stderr):  # what a tool prints is no part of the report
            return audit_tool(audited, problem, data, name=name, dtypes=dtypes)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:  # of a model or a loss that are a caller's own
        raise ValueError(f"{problem.name} cannot be audited on: {describe_fault(error)}") from error


def _function(spec: str, problem: Problem) -> Callable[..., Any]:
    """Return the function that `file.py:name` or `package.module:name` names; one of one argument makes it.

    Raises:
        ValueError: There is none, or it raises something.
    """
    module, colon, name = spec.rpartition(":")
    if not colon or not module or not name:
        raise ValueError(f"{spec!r} names no function; write file.py:name or package.module:name")
    try:
        home = module_of(module) if module.endswith(".py") else importlib.import_module(module)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:  # a caller's code may raise anything
        raise ValueError(f"{spec!r}: the import of {module} raised {describe_fault(error)}") from error
    named = {one: value for one, value in vars(home).items() if not one.startswith("__")}
    try:
        found = pick(named, name, "name")
    except ValueError as error:
        raise ValueError(f"{module}: {error}") from None
    if not callable(found):
        raise ValueError(f"{spec} is an object of class {type(found).__name__}, and no function f(x, y)")
    if _arguments(found) != 1:
        return found
    try:
        made = found(problem)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{spec!r}: the call with the problem raised {describe_fault(error)}") from error
    if not callable(made):
        raise ValueError(f"{spec!r} takes one argument, the problem, and returned a {type(made).__name__}, no function")
    return made


def _arguments(function: Callable[..., Any]) -> int:
    """Return how many arguments a function must be given by position; 2 where that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len([one for one in positional if one.default is one.empty]) or 2


def _data(audited: Any, problem: Problem, samples: int, seed: int) -> tuple[Tree, ...]:
    """Return `(x, y)`, with theta in front where the function takes three arguments.

    Args:
        audited: A function, or the name of a set-up.
        problem: A module or a function with an example, or a regression.
        samples: How many.
        seed: Of the draw for a regression.
    """
    is_named = isinstance(audited, str)
    takes_theta = SET_UPS[audited].of_functions if is_named else _arguments(audited) == MOST_ARGUMENTS
    if not isinstance(problem, BlackBox | FunctionProblem):
        if not takes_theta:
            raise ValueError(f"{problem.name} has no parameters of its own; write a function f(theta, x, y)")
        return problem.draw(samples, seed)
    if problem.example is None:
        raise ValueError(f"{problem.name} has no data; make the {type(problem).__name__} with example=(x, y)")
    x, y = problem.prepared(*problem.example)
    data = take((x, y), slice(min(samples, count(y))))
    return (None, *data) if takes_theta else tuple(data)
