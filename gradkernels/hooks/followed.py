"""A computation by hooks, or for a model that hooks cannot follow by vmap of the whole model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradkernels import vmapped
from gradkernels.hooks.unfit import Unfit
from gradkernels.kernel import Compute
from gradkernels.problems.module import ModuleProblem
from gradkernels.quantity import QUANTITIES, Moments
from gradkernels.tree import Tree, count, each, take

TRIES = 2
"""The second one looks at the model anew: it may have changed since it was looked at."""

Results = list[tuple[int, Any]]
"""What chunks of samples give, each with their number."""


def followed(problem: ModuleProblem, quantity: str, chunk: int, compute: Compute) -> Compute:
    """`compute`, or the quantity's definition from rows by `gradkernels.vmapped` where it raises `Unfit`.

    Args:
        problem: Whose model.
        quantity: Name of the quantity.
        chunk: Most samples at a time.
        compute: By hooks; what it cannot do it says at once from the second time on.
    """
    whole = _whole(problem, quantity, chunk)

    def call(theta: Tree, x: Tree, y: Tree, **options: Any) -> Any:
        for _ in range(TRIES):
            try:
                return compute(theta, x, y, **options)
            except Unfit:
                continue
        return whole(theta, x, y, **options)

    return call


def _whole(problem: ModuleProblem, quantity: str, chunk: int) -> Compute:
    rows: Compute = vmapped.rows(problem, None)
    if quantity == "per_sample":
        return rows
    of, combine = QUANTITIES[quantity].of, COMBINED[quantity]

    def compute(theta: Tree, x: Tree, y: Tree, out: Tree | None = None, **options: Any) -> Any:
        n = count(y)
        size = min(chunk, vmapped.fitting(theta, x, n))
        # Without any samples too there is one chunk, of none.
        parts = [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]
        with torch.inference_mode(False), torch.no_grad():
            some = [(part.stop - part.start, of(torch, rows(theta, take(x, part), take(y, part)), **options))
                    for part in parts]  # fmt: skip
            result = combine(some)
        return result if out is None else out.copy_(result)

    return compute


def _joined(results: Results) -> Any:
    return torch.cat([result for _, result in results])


def _summed(results: Results) -> Any:
    return each(lambda *parts: sum(parts), *(result for _, result in results))


def _mean(results: Results) -> Any:
    n = sum(m for m, _ in results)
    return _summed([(m, each(lambda one, m=m: one * (m / n), result)) for m, result in results])


def _moments(results: Results) -> Moments:
    """Variances within the chunks, and of their means."""
    mean = _mean([(m, result.mean) for m, result in results])
    around = [(m, each(lambda v, own, all_: v + (own - all_) ** 2, *result[::-1], mean)) for m, result in results]
    return Moments(mean, _mean(around))


COMBINED: dict[str, Callable[[Results], Any]] = {
    "norms": _joined,
    "clipped_sum": _summed,
    "gradient": _mean,
    "moments": _moments,
}
"""How a quantity follows from those of chunks."""
