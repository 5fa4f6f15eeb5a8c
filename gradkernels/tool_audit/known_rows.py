"""What a tool's rows must be, by `gradkernels.check`: a pass of its own for each sample, in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.check.modules.result_checks import DTYPE_TOLERANCES, SMALLEST_SHARE
from gradkernels.check.reference import Reference
from gradkernels.fastest.flat_rows import FlatLayout
from gradkernels.problems import BlackBox, Problem
from gradkernels.problems.module.conversion import as_numpy
from gradkernels.quantity import QUANTITIES, flat
from gradkernels.tree import Tree, each
from gradkernels.truth import Floats

ROWS_AT_ONCE = 16
"""Samples whose rounding is looked at closely before their rows are compared again."""

UNDERFLOWS = {"float16": 1e-3}
"""Entries that a dtype may round to zero; others hold what is small beside a row."""


@dataclass(frozen=True)
class Errors:
    """Where rows are off.

    Attributes:
        off: Whether each entry is, `(n, P)`.
        error: The largest error of a finite entry, relative to its scale.
    """

    off: Floats
    error: float


@dataclass(frozen=True)
class KnownRows:
    """Rows of some samples as they must be.

    Attributes:
        reference: Of the samples.
        layout: Places of the parameters in a row.
        dtype: Of the tool's computation.
        tolerance: Error allowed, relative to the scale of an entry.
    """

    reference: Reference
    layout: FlatLayout
    dtype: str
    tolerance: float

    @property
    def rows(self) -> Floats:
        """Per-sample gradients `(n, P)`, float64."""
        return flat(self.reference.rows, 1)

    def compare(self, found: Floats, samples: Floats) -> Errors:
        """Compare rows with those of some samples; where they disagree, look at how well these can be known.

        Args:
            found: `(k, P)`.
            samples: Numbers of the samples that these are of, `(k,)`.
        """
        errors, known = self._compare(found, samples), self
        asked = np.zeros(len(self.rows), bool)
        while True:
            more = np.unique(samples[errors.off.any(1)])
            more = more[~asked[more]][:ROWS_AT_ONCE]
            if not more.size:
                return errors
            wider = known.reference.with_errors(more, self.tolerance, self.dtype)
            if wider is None:
                return errors
            asked[more] = True
            known = replace(known, reference=wider)
            errors = known._compare(found, samples)
            if errors.off[np.isin(samples, more)].any():  # one that stays wrong settles it
                return errors

    def _compare(self, found: Floats, samples: Floats) -> Errors:
        want, scale = self.rows[samples], flat(self.reference.scale, 1)[samples]
        same = (found == want) | (np.isnan(found) & np.isnan(want))
        finite = np.isfinite(found) & np.isfinite(want)
        with np.errstate(all="ignore"):
            error = np.where(same, 0.0, np.abs(found - want) / scale)
        off = ~same & ~(finite & (error <= self.tolerance))
        largest = float(error[finite].max(initial=0.0))
        return Errors(off | self._left_out(found, want), largest)

    def _left_out(self, found: Floats, want: Floats) -> Floats:
        """Find parameters that are zero where they should be small, but are not rounding."""
        left, length = np.zeros(found.shape, bool), np.linalg.norm(want, axis=1)
        for at in self.layout.slices.values():
            size = np.abs(want[:, at]).max(1, initial=0.0)
            least = np.maximum(SMALLEST_SHARE * length, UNDERFLOWS.get(self.dtype, 0.0))
            left[:, at] = ((size > least) & ~found[:, at].any(1))[:, None]
        return left


def known_rows(problem: Problem, inputs: tuple[Tree, Tree, Tree], layout: FlatLayout, dtype: str) -> KnownRows:
    """Compute the rows of all samples.

    Args:
        problem: Whose loss is differentiated, by a model without a tool's hooks.
        inputs: `(theta, x, y)`, prepared.
        layout: Places of the parameters in a row.
        dtype: Of the tool's computation.

    Raises:
        ValueError: Samples have no gradients of their own.
    """
    black_box = isinstance(problem, BlackBox)
    theta, x, y = each(as_numpy if black_box else _plain, inputs)
    reference = Reference(problem, theta, x, y)
    terms = reference.expect(QUANTITIES["per_sample"]).terms
    tolerance = DTYPE_TOLERANCES[dtype] if black_box else problem.tolerance(dtype, terms)
    return KnownRows(reference, layout, dtype, tolerance)


def _plain(array: Any) -> Any:
    library = backend_of(array)
    return library.get(array) if library else np.asarray(array)
