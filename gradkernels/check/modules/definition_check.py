"""A result that is held against its quantity's own definition, of the gradients of a few single samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.known_gradients import KnownGradients
from gradkernels.check.modules.result_checks import DTYPE_TOLERANCES, ResultCheck, SampleGradient
from gradkernels.check.true_gradients import TrueGradients
from gradkernels.quantity import Floats, Options, Quantity, flat
from gradkernels.tree import Tree, count, each, leaves


@dataclass(frozen=True)
class SingleGradients(KnownGradients):
    """Gradients of samples that were computed one by one.

    Attributes:
        batch: A `CallerBatch`, whose problem and parameters they are of.
        singles: The gradients `(p,)` in float64, and the scale of each one's rounding.
    """

    batch: Any
    singles: Sequence[tuple[Floats, float]]

    @property
    def theta(self) -> Tree:
        """Parameters by name."""
        return self.batch.theta

    @cached_property
    def true(self) -> TrueGradients:
        """The gradients, whose entries all share in a row's rounding."""
        size = sum(part.numel() for part in leaves(self.theta))
        rows = np.array([row for row, _ in self.singles]).reshape(len(self.singles), size)
        scales = np.array([scale for _, scale in self.singles])
        mean = rows.sum(0) / max(1, len(rows))  # there may be none
        return TrueGradients(rows, np.broadcast_to(scales[:, None], rows.shape), mean, scales)

    def of_batch(self, batch: tuple[Tree, Tree]) -> SingleGradients:
        """Return the gradients of other samples `(x, y)`."""
        x, y = batch
        singles = replace(self.batch, x=x, y=y).sample_gradients(range(count(y)))
        return SingleGradients(self.batch, [(_row(one), one.scale) for one in singles])


class DefinitionCheck(ResultCheck):
    """A result, of which the parts at `places` belong to the single samples, or which sums over them.

    Args:
        quantity: What was computed.
        found: The result.
        places: Where the singles are in it, if it has samples.
        options: Of the call, those by sample for the singles alone.
        batch: A `CallerBatch`, for its parameters and problem.
        label: Start of messages.
        times: How often each single is in a sum; None for once.
    """

    def __init__(
        self,
        quantity: Quantity,
        found: Any,
        places: Sequence[int],
        options: Options,
        batch: Any,
        label: str,
        times: Sequence[int] | None = None,
    ) -> None:
        super().__init__(found, batch.dtype, label)
        self._quantity, self._places, self._options, self._batch = quantity, places, options, batch
        self._times, self._singles = times, list[tuple[Floats, float]]()

    def add(self, i: int, single: SampleGradient) -> None:
        """Keep the i-th single gradient, as often as it is in the result."""
        self._singles += [(_row(single), single.scale)] * (self._times[i] if self._times else 1)

    def finish(self) -> None:
        """Compare the result with the definition of the gradients kept."""
        truth = SingleGradients(self._batch, self._singles)
        options = self._plain_options()
        value, scale = self._quantity.expect(truth, **options)
        self._compare_all(self._part(options), np.asarray(value), np.broadcast_to(scale, np.shape(value)))

    def _plain_options(self) -> Options:
        """Return the options as definitions take them: arrays as numpy's, but other samples as the model takes them."""
        batches = {option.name for option in self._quantity.options if option.batch}
        given = self._options or {}
        return {name: value if name in batches else each(as_floats, value) for name, value in given.items()}

    def _part(self, options: Options) -> Floats:
        """Return what of the result belongs to the singles, in float64."""
        found = each(as_floats, self.found)
        for name in self._quantity.sample_parts:
            found = found._replace(**{name: each(self._of_singles, getattr(found, name))})
        found = (
            flat(found, self._quantity.leading(len(self._singles), options))
            if isinstance(found, dict | tuple)
            else found
        )
        if self._quantity.by_sample:
            found = self._of_singles(found)
        if self._quantity.pairs and "other" not in options:
            found = found[:, np.asarray(self._places)]
        return found

    def _of_singles(self, part: Floats) -> Floats:
        return part[np.asarray(self._places, int)]

    def _largest(self) -> float:
        """Return the largest number that fits into the result."""
        import torch

        return float(max(torch.finfo(part.dtype).max for part in leaves(self.found)))

    def _compare_all(self, got: Floats, want: Floats, scale: Floats) -> None:
        allowed = DTYPE_TOLERANCES[self.dtype]
        beyond = np.abs(want) > (1 - allowed) * self._largest()
        overflown = beyond & np.isinf(got) & (np.sign(got) == np.sign(want))  # the nearest number of its dtype
        same = (got == want) | (np.isnan(got) & np.isnan(want)) | overflown
        finite = np.isfinite(got) & np.isfinite(want)
        with np.errstate(invalid="ignore"):
            off = ~same & (~finite | (np.abs(got - want) > allowed * scale))
        if off.any():
            at = tuple(int(place) for place in np.argwhere(off)[0])
            one, other = float(got[at]), float(want[at])
            by = f", off by {abs(one - other):.2g}" if finite[at] else ""
            raise Disagreement(f"{self.label}: entry {at} is {one!r}, expected {other!r}{by}, allowed {allowed:.2g}")


def _row(single: SampleGradient) -> Floats:
    return flat({name: as_floats(part) for name, part in single.row.items()})


def as_floats(value: Any) -> Any:
    """Return a tensor as numpy, in float64 if it holds floats; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
