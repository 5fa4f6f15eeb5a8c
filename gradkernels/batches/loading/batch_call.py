"""A quantity of one batch, by the function of `gk`, with the batch's part of what is given for all samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradkernels.batches.loading.batch import Batch
from gradkernels.names import counted
from gradkernels.problems import Problem
from gradkernels.tree import Tree


@dataclass(frozen=True, eq=False)
class BatchCall:
    """What is asked of each batch: called with one, it returns the result of its samples.

    Attributes:
        function: Of `gk`, `function(problem, theta, x, y, **options)`.
        problem: What is differentiated.
        theta: Parameters.
        options: The same for all batches, by name; without those that are None.
        by_sample: By name, arrays with an entry for each sample, or functions `f(x, y)` that give a batch's own.
        sharded: Parameters by name, as the caller has them: sums are sharded over ranks where these are.
    """

    function: Callable[..., Any]
    problem: Problem
    theta: Tree
    options: dict[str, Any] = field(default_factory=dict)
    by_sample: dict[str, Any] = field(default_factory=dict)
    sharded: dict[str, Any] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Any:
        """Return the result of a batch; an error says which batch it is of."""
        try:
            options = self.options | {name: self.part(name, batch) for name in self.by_sample}
            return self.function(self.problem, self.theta, batch.x, batch.y, **options)
        except (TypeError, ValueError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{batch}: {error}") from error

    def part(self, name: str, batch: Batch) -> Any:
        """Return a batch's part of an option by sample.

        Args:
            name: Of the option.
            batch: Which samples.
        """
        given = self.by_sample[name]
        if callable(given):
            return given(batch.x, batch.y)
        if not hasattr(given, "shape"):
            raise TypeError(f"{name} is a {type(given).__name__}; pass an array with an entry for each sample, in the "
                            "order of the batches, or a function f(x, y) of a batch")  # fmt: skip
        if len(given) < batch.stop:
            raise ValueError(f"{name} has {len(given):,} entries and the batch goes on to sample {batch.stop - 1:,}; "
                             "it must have one for each sample, in the order of the batches")  # fmt: skip
        return given[batch.start : batch.stop]

    def require_length(self, samples: int) -> None:
        """Raise a ValueError where an option by sample has entries for more samples than there were."""
        for name, given in self.by_sample.items():
            if not callable(given) and len(given) != samples:
                raise ValueError(f"{name} has {len(given):,} entries and the batches have {counted(samples, 'sample')}"
                                 "; it must have one for each, in the order of the batches")  # fmt: skip
