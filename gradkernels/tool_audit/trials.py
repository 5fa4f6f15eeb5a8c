"""The trials of an audit: what a tool is asked for, and its rows compared with those that are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gradkernels.fastest.flat_rows import FlatLayout
from gradkernels.problems import BlackBox, Problem
from gradkernels.tool_audit.audit_trial import AuditTrial, Outcome
from gradkernels.tool_audit.diagnosis import diagnosed
from gradkernels.tool_audit.known_rows import KnownRows, known_rows
from gradkernels.tool_audit.other_batches import (
    in_dtype,
    model_after_step,
    model_in_dtype,
    other_parameters,
    ragged,
    shorter,
)
from gradkernels.tool_audit.result_forms import Misfit, rows_of
from gradkernels.tool_audit.tool_calls import Tool, copied_array, first_line_of, plain
from gradkernels.tree import Tree, count, each, leaves, take
from gradkernels.truth import Floats
from gradkernels.validate import dtype_of

SHORT_BATCH = 4
"""Samples of trials whose rows are not those of the batch."""

HOLDS_PARAMETERS = "it goes on with the parameters that it was made with, and was not tried at others"


@dataclass(frozen=True)
class Subject:
    """A tool and the data of its trials.

    Attributes:
        tool: What is audited.
        clean: The problem that rows are known from.
        theta: Parameters.
        x: Inputs, prepared.
        y: Targets, prepared.
        layout: Places of the parameters in a row.
        dtype: Of the parameters, the coarsest.
    """

    tool: Tool
    clean: Problem
    theta: Tree
    x: Tree
    y: Tree
    layout: FlatLayout
    dtype: str

    def of(self, samples: Floats) -> Subject:
        """Return the same with some of the samples."""
        x, y = take((self.x, self.y), samples)
        return replace(self, x=x, y=y)

    def known(self) -> KnownRows:
        """Compute the rows of all samples."""
        return known_rows(self.clean, (self.theta, self.x, self.y), self.layout, self.dtype)

    @property
    def dtypes(self) -> dict[str, str]:
        """Of the parameters by name."""
        return dict(zip(self.layout, map(dtype_of, leaves(self.theta)), strict=True))

    def rows(self) -> Floats:
        """Call the tool and take its result for rows `(n, P)`."""
        n = count(self.y)
        return rows_of(self.tool(self.theta, self.x, self.y), self.layout, self.dtypes, n)


def batch_trials(subject: Subject, known: KnownRows) -> Iterator[AuditTrial]:
    """Yield what comes of the batch, and of others with its samples.

    Args:
        subject: The tool and the batch.
        known: The rows of its samples.
    """
    n = count(subject.y)
    every = np.arange(n)
    yield _trial(subject, known, every, "batch", f"the batch of {n}")
    yield _again(subject, known)
    drawn = np.random.default_rng(0).integers(n, size=n)
    batches = {
        "reversed": ("its samples in reverse order", every[::-1].copy()),
        "ties": ("as many, some twice: tied lengths", drawn),
        "fewer": (f"{max(1, n // 2)} of them: another n", every[1::2] if n > 1 else every),
        "one": ("one sample alone, n = 1", every[-1:]),
        "empty": ("no sample, n = 0", every[:0]),
        "after": ("the batch, after all of these", every),
    }
    for name, (asks, samples) in batches.items():
        yield _trial(subject.of(samples), known, samples, name, asks)


def _again(subject: Subject, known: KnownRows) -> AuditTrial:
    """Call it with other data between; rows that add up, or that are written over, show."""
    name, asks, every = "again", "again after another; the first rows stay", np.arange(count(subject.y))
    try:
        first = subject.tool(subject.theta, subject.x, subject.y)
        before = _kept(first)
        subject.of(every[::-1].copy()).rows()
        after = _kept(first)
        second = subject.rows()
        if not all(np.array_equal(was, now, equal_nan=True) for was, now in zip(before, after, strict=True)):
            return AuditTrial(name, asks, Outcome.wrong, "a later call wrote over the result of the first one")
        return _compared(known, second, every, name, asks)
    except Exception as error:
        return _failed(error, name, asks)


def _kept(result: Any) -> list[Floats]:
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else [result]
    return [np.array(plain(part)) for part in parts]


def further_trials(subject: Subject, dtypes: tuple[str, ...]) -> Iterator[AuditTrial]:
    """Yield what comes of other lengths, parameters and dtypes.

    Args:
        subject: The tool and the batch.
        dtypes: Names of dtypes to try.
    """
    few = subject.of(np.arange(min(SHORT_BATCH, count(subject.y))))
    if isinstance(subject.clean, BlackBox):
        cut, gaps = shorter(few.x, few.y), ragged(few.y)
        if cut is not None:
            yield _new_data(replace(few, x=cut[0], y=cut[1]), "lengths", "sequences of half the length")
        if gaps is not None:
            yield _new_data(replace(few, y=gaps), "ragged", "targets left out at the ends (-100), ragged lengths")
    moved = _at_other_parameters(few)
    yield moved
    for dtype in dtypes:
        if dtype != few.dtype and dtype in few.clean.dtypes:
            yield _in_dtype(few, dtype, moved.says == HOLDS_PARAMETERS)


def _new_data(subject: Subject, name: str, asks: str) -> AuditTrial:
    try:
        known = subject.known()
    except Exception as error:
        return AuditTrial(name, asks, Outcome.skipped, f"the model alone does not take them ({first_line_of(error)})")
    return _trial(subject, known, np.arange(count(subject.y)), name, asks)


def _at_other_parameters(subject: Subject) -> AuditTrial:
    name, asks, every = "parameters", "other parameters, as after a step", np.arange(count(subject.y))
    moved = replace(subject, theta=other_parameters(each(copied_array, subject.theta)))
    if subject.tool.takes_theta:
        return _new_data(moved, name, asks)
    if not isinstance(subject.tool.problem, BlackBox):  # nothing that it could look at is changed
        return AuditTrial(name, asks, Outcome.skipped, HOLDS_PARAMETERS)
    known = moved.known()
    with model_after_step(subject.tool.problem):
        found = _trial(moved, known, every, name, asks)
        if found.outcome is Outcome.wrong:
            before = _trial(subject, subject.known(), every, name, asks)
            if before.outcome is Outcome.ok:
                return AuditTrial(name, asks, Outcome.skipped, HOLDS_PARAMETERS)
    return found


def _in_dtype(subject: Subject, dtype: str, holds: bool) -> AuditTrial:
    """Try it in another dtype, the model converted in place where it takes no parameters."""
    asks, every = f"everything in {dtype}", np.arange(count(subject.y))
    if holds:
        return AuditTrial(dtype, asks, Outcome.skipped, HOLDS_PARAMETERS)
    theta, x, y = in_dtype((subject.theta, subject.x, subject.y), dtype)
    if {dtype_of(part) for part in leaves(theta)} != {dtype}:
        return AuditTrial(dtype, asks, Outcome.skipped, f"the library of its arrays has no {dtype} as it is set now")
    tool = subject.tool.renewed()  # set up by a model that has this dtype, where it can be
    cast = replace(subject, tool=tool, theta=theta, x=x, y=y, dtype=dtype)
    if not isinstance(subject.clean, BlackBox):
        return _new_data(cast, dtype, asks)
    with model_in_dtype(subject.clean, dtype), model_in_dtype(tool.problem, dtype):
        try:
            known = cast.known()
            subject.clean.sample_losses(theta, x, y).sum()
        except Exception as error:
            return AuditTrial(
                dtype, asks, Outcome.skipped, f"the model alone does not take it ({first_line_of(error)})"
            )
        return _trial(cast, known, every, dtype, asks)


def _trial(subject: Subject, known: KnownRows, samples: Floats, name: str, asks: str) -> AuditTrial:
    """Call the tool and compare its rows with those of these samples.

    Args:
        subject: The tool, with the data of the call.
        known: Rows, among them those of the samples.
        samples: Their numbers there.
        name: Of the trial.
        asks: What it is.
    """
    try:
        return _compared(known, subject.rows(), samples, name, asks)
    except Exception as error:
        return _failed(error, name, asks)


def _failed(error: Exception, name: str, asks: str) -> AuditTrial:
    if isinstance(error, Misfit):
        return AuditTrial(name, asks, Outcome.wrong, str(error), parameter=error.parameter)
    return AuditTrial(name, asks, Outcome.raised, first_line_of(error))


def _compared(known: KnownRows, found: Floats, samples: Floats, name: str, asks: str) -> AuditTrial:
    errors = known.compare(found, samples)
    done = partial(AuditTrial, name, asks, error=errors.error, tolerance=known.tolerance)
    if not errors.off.any():
        return done(Outcome.ok)
    slices = known.layout.slices
    wrong = [parameter for parameter, at in slices.items() if errors.off[:, at].any()]
    at = slices[wrong[0]]
    sample = int(np.flatnonzero(errors.off[:, at].any(1))[0])
    columns = np.concatenate([np.arange(slices[one].start, slices[one].stop) for one in wrong])
    want = known.rows[samples]
    return done(
        Outcome.wrong,
        _first(found[sample, at], want[sample, at], errors.off[sample, at], known.layout.shapes[wrong[0]], sample),
        parameter=wrong[0],
        sample=sample,
        wrong_parameters=tuple(wrong),
        wrong_samples=tuple(int(i) for i in np.flatnonzero(errors.off.any(1))),
        diagnosis=diagnosed(found[:, columns], want[:, columns]),
    )


def _first(found: Floats, want: Floats, off: Floats, shape: tuple[int, ...], sample: int) -> str:
    position = int(np.flatnonzero(off)[0])
    at = tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()
    return f"entry {at} of sample {sample} is {found[position]:.6g}, expected {want[position]:.6g}"
