"""A call whose result is known, and what of it is held against passes of single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.kernel import Compute, Kernel
from gradkernels.tree import count, each


@dataclass(frozen=True)
class AuditedCall:
    """A call whose result is known.

    Attributes:
        kernel: That computed it.
        compute: The kernel, built.
        batch: What it was given.
        options: Besides.
        result: It.
    """

    kernel: Kernel
    compute: Compute
    batch: CallerBatch
    options: dict[str, Any]
    result: Any

    def with_few_others(self, draw: Callable[[int], list[int]]) -> AuditedCall:
        """Return the call with few of the other samples that products are with: each one kept costs a pass of its own.

        Args:
            draw: Gives the numbers of those that are kept, of so many.
        """
        options, result = dict(self.options), self.result
        for option in self.kernel.quantity.options:
            if option.batch and option.name in options:
                x, y = options[option.name]
                kept = draw(count(y))
                few = replace(self.batch, x=x, y=y).of(kept)
                options[option.name] = few.x, few.y
                result = each(lambda part, at=kept: part[:, at], result)
        return replace(self, options=options, result=result)

    def with_one_draw(self, chosen: Sequence[int]) -> AuditedCall:
        """Compute some samples alone, with one draw for all: those of the result are not to be had again.

        Args:
            chosen: Their numbers.
        """
        batch = replace(self.batch.of(chosen), problem=replace(self.batch.problem, randomness="same"))
        compute = self.kernel.build(batch.problem)
        options = self.kernel.quantity.part(self.options, list(chosen))
        result = compute(batch.theta, batch.x, batch.y, **options)
        return replace(self, batch=batch, compute=compute, options=options, result=result)
