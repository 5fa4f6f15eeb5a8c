"""What is in doubt after a recording has run is put right: a few samples' part of a clipped sum, small variances."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import quantities as hooks
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.quantities import Theta, clip_factors
from gradkernels.engines.recorded import functions
from gradkernels.engines.recorded.recordings import Recordings
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, count, take

MOST_MENDED = 16
"""Samples whose rows are formed for it; with more the whole sum is computed by the hooks."""

MOST_TIMES = 4
"""That a pass for small variances is recorded for more parameters; then it is for all."""


class Mending:
    """Puts clipped sums of a problem right.

    Args:
        problem: Whose model.
        chunk: Samples that the hooks take at a time.
    """

    def __init__(self, problem: ModuleProblem, chunk: int) -> None:
        self._alone = problem.randomness != "different"  # else no sample's numbers are drawn again without the others
        self._norms, self._rows = hooks.norms(problem, chunk), hooks.per_sample(problem, chunk)

    def __call__(
        self, theta: Theta, data: tuple[Tree, Tree], max_norm: float, totals: Theta, found: tuple[Array, Array]
    ) -> bool:
        """Return whether the sums are right now.

        Args:
            theta: Parameters by name.
            data: x and y.
            max_norm: What norms are clipped to.
            totals: The sums by name, which are changed.
            found: The norms that they were made with, `(n,)`, and which are in doubt.
        """
        norms, at = found[0], found[1].nonzero().flatten()
        if not self._alone or not norms[at].isfinite().all():
            return False
        x, y = data
        norms_again = self._norms(theta, take(x, at), take(y, at))
        change = clip_factors(norms_again, max_norm) - clip_factors(norms[at], max_norm)
        wrong = change != 0
        if not change.isfinite().all() or int(wrong.sum()) > MOST_MENDED:
            return False
        if wrong.any():
            at, change = at[wrong], change[wrong]
            rows = self._rows(theta, take(x, at), take(y, at))
            for name, total in totals.items():
                total += torch.tensordot(change.to(total.dtype), widen(rows[name]), 1)
        return True


class SmallVariances:
    """Variances around means that are known: of the parameters that were asked for so far, of all after a few times.

    Args:
        problem: Whose model.
        chunk: Samples at a time.
        parts: `parts(recordings, theta, data, chunk, *more)`: what is recorded for each chunk; None where nothing is.
    """

    def __init__(self, problem: ModuleProblem, chunk: int, parts: Callable[..., list[Any] | None]) -> None:
        self._problem, self._chunk, self._parts = problem, chunk, parts
        self._plain = hooks.variances_around(problem, chunk)
        self._names, self._times = frozenset[str](), 0

    def __call__(self, theta: Theta, data: tuple[Tree, Tree], means: Theta, names: frozenset[str]) -> Theta:
        """Return the variances of some parameters.

        Args:
            theta: Parameters by name.
            data: x and y.
            means: By name, in theta's order.
            names: Of the parameters.
        """
        if not names <= self._names:
            self._times += 1
            self._names |= names if self._times < MOST_TIMES else theta.keys()
            self._recordings = Recordings(self._problem, partial(functions.deviations, names=self._names))
        try:
            parts = self._parts(self._recordings, theta, data, self._chunk, *means.values())
        except Unfit:  # where the first pass was recorded the hooks compute the second
            parts = None
        if parts is None:
            return self._plain(theta, *data, means, names)
        with torch.inference_mode(False), torch.no_grad():
            totals = (torch.stack(of).sum(0) if len(of) > 1 else of[0] for of in zip(*parts, strict=True))
            asked = [name for name in theta if name in self._names]
            return {name: one / count(data[1]) for name, one in zip(asked, totals, strict=True) if name in names}
