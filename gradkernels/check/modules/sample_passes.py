"""Whether results of a module's samples are those of single-sample passes, in the caller's own dtype and mode.

A result is held against one backward pass per sample, one after the other; no more than a large gradient or two is in
memory. The scale of a row is its norm; what two honest computations in the working precision differ by is far below
`DTYPE_TOLERANCES` of it. Where a row is a small difference of large numbers that does not hold: what does not agree is
compared again with the same pass in float64, and its scale is then at least `ERROR_SLACK` times the error that the
single pass has itself, or the pass in float64 where parameters change by as little as rounding changes sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.reference import module_gradients
from gradkernels.check.modules.result_checks import (
    DTYPE_TOLERANCES,
    VANISHING_FLOOR,
    ResultCheck,
    SampleGradient,
    coarsest_dtype,
    gradient_norm,
    gradient_norms,
)
from gradkernels.check.true_gradients import ERROR_SLACK
from gradkernels.memory import ordinary
from gradkernels.problems.module.conversion import as_numpy
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree, count, each, leaves, take

MOST_SAMPLES = 8
FEWEST_SAMPLES = 3
MOST_ROW_BYTES = 2**27
"""Bytes that the rows of the samples may take, where that leaves `FEWEST_SAMPLES` of them."""

ROW_BYTES_AT_ONCE = 2**20
"""Bytes that the rows of samples may take that are held at once, between their passes and the comparison."""

MOST_LOOKED_AT = 64
"""Number of samples among which finite ones are looked for."""


@dataclass(frozen=True)
class CallerBatch:
    """What a kernel was given.

    Attributes:
        problem: Of a module.
        theta: Parameters by name.
        x: Inputs.
        y: Targets.
    """

    problem: Any
    theta: dict[str, Any]
    x: Tree
    y: Tree

    @property
    def dtype(self) -> str:
        """Of the parameters, the coarsest."""
        return coarsest_dtype(self.theta)

    def of(self, chosen: Sequence[int]) -> CallerBatch:
        """Return the batch of these samples."""
        import torch

        with torch.inference_mode(False):
            index = torch.tensor(chosen, dtype=torch.long, device=leaves(self.theta)[0].device)
            x, y = each(ordinary, take((self.x, self.y), index))
        return replace(self, x=x, y=y)

    def sample_gradients(self, chosen: Iterable[int]) -> Iterator[SampleGradient]:
        """Yield the gradients of these samples, each from a pass of its own; small ones are held several at a time."""
        rows = kernel_by_key("torch.loop.per_sample").build(self.problem)
        at_once = max(1, ROW_BYTES_AT_ONCE // bytes_per_row(self)) if self.problem.randomness == "error" else 1
        left = iter(chosen)
        while some := [*islice(left, at_once)]:
            few = self.of(some) if len(some) > 1 else self._of_one(some[0])
            found = rows(few.theta, few.x, few.y)
            for i, length in enumerate(gradient_norms(found)):
                row = {name: part[i] for name, part in found.items()}
                yield SampleGradient(row, length, length, length * VANISHING_FLOOR)

    def _of_one(self, i: int) -> CallerBatch:
        one = slice(i, i + 1)
        return replace(self, x=take(self.x, one), y=take(self.y, one))

    def float64_gradients(self, chosen: Sequence[int]) -> list[SampleGradient] | None:
        """Compute the same in float64, with the error of the working precision; None where that cannot be had."""
        import torch

        narrow = [single.row for single in self.sample_gradients(chosen)]
        data = each(as_numpy, self.of(chosen).x), each(as_numpy, self.of(chosen).y)
        try:
            truth = module_gradients(self.problem, each(as_numpy, self.theta), *data)
        except Exception:  # a model that cannot compute in float64
            return None
        sizes = [one.numel() for one in narrow[0].values()]
        look = truth.row_errors
        found, errors = [], look(range(len(chosen)), self.dtype) if look else [0.0] * len(chosen)
        for values, row, scale, least in zip(truth.rows, narrow, truth.scale[:, 0], errors, strict=True):
            parts = torch.split(torch.from_numpy(values), sizes)
            wide = {
                name: part.view(one.shape).to(one.device) for part, (name, one) in zip(parts, row.items(), strict=True)
            }
            error = max(gradient_norm({name: wide[name] - one for name, one in row.items()}), float(least))
            if not error < math.inf:
                return None
            allowed = DTYPE_TOLERANCES[self.dtype]
            found.append(
                SampleGradient(
                    wide, gradient_norm(wide), max(float(scale), ERROR_SLACK * error / allowed), ERROR_SLACK * error
                )
            )
        largest = max(single.scale for single in found)
        return [single._replace(scale=max(single.scale, VANISHING_FLOOR * largest)) for single in found]


def require_agreement(batch: CallerBatch, chosen: Sequence[int], results: Callable[[], Sequence[ResultCheck]]) -> None:
    """Hold results against the chosen samples' own passes; look again beside float64 at what does not agree.

    Args:
        batch: What was given.
        chosen: Numbers of its samples, in the order in which the results know them.
        results: What is held, made anew for each look.

    Raises:
        Disagreement: A result is wrong; says where and by how much.
    """
    try:
        _compare_all(batch.sample_gradients(chosen), results())
    except Disagreement:
        wide = batch.float64_gradients(chosen)
        if wide is None:
            raise
        _compare_all(wide, results())


def _compare_all(singles: Iterable[SampleGradient], results: Sequence[ResultCheck]) -> None:
    for i, single in enumerate(singles):
        for result in results:
            result.add(i, single)
    for result in results:
        result.finish()


def choose_samples(batch: CallerBatch, most: int = MOST_SAMPLES) -> list[int]:
    """Return the numbers of a few finite samples; of too few again and again; none where there are none."""
    import torch

    if not (n := min(count(batch.y), MOST_LOOKED_AT)):
        return []
    good = torch.ones(n, dtype=torch.bool)
    for leaf in leaves((batch.x, batch.y)):
        if leaf.is_floating_point():
            good &= leaf[:n].detach().reshape(n, math.prod(leaf.shape[1:])).isfinite().all(1).cpu()
    finite = good.nonzero().flatten().tolist()
    finite = finite[: max(FEWEST_SAMPLES, min(most, MOST_ROW_BYTES // bytes_per_row(batch)))]
    # Neither in the caller's order nor its reverse: a model may sort its samples, and these be sorted by chance.
    order = finite[:2][::-1] + finite[2:]
    return (order * FEWEST_SAMPLES)[: max(len(order), FEWEST_SAMPLES)]


def bytes_per_row(batch: CallerBatch) -> int:
    """Return the bytes of one row; 1 where no parameter has an entry."""
    return max(1, sum(one.numel() * one.element_size() for one in leaves(batch.theta)))
