"""What compares a result of a quantity with gradients of single samples: as these come, or by its definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradkernels.check.modules.definition_check import DefinitionCheck
from gradkernels.check.modules.result_checks import MomentsCheck, NormsCheck, ResultCheck, RowsCheck, SumCheck
from gradkernels.quantity import Quantity


def result_check(
    quantity: Quantity,
    found: Any,
    places: Sequence[int],
    n: int,
    options: Any,
    batch: Any,
    label: str,
    times: Sequence[int] | None = None,
) -> ResultCheck:
    """Return what compares a result of a quantity with the single gradients that it was made of.

    Args:
        quantity: It.
        found: The result; of sums, of the singles alone.
        places: Where the singles are in a result that has samples.
        n: Number of samples of a mean.
        options: That the result was asked for with, those by sample for the singles alone.
        batch: A `CallerBatch`, for its parameters and problem.
        label: Start of the message.
        times: How often each single is in a sum; None for once.
    """
    dtype = batch.dtype
    makers: dict[str, Callable[[], ResultCheck]] = {
        "per_sample": lambda: RowsCheck(found, places, dtype, label),
        "norms": lambda: NormsCheck(found, places, dtype, label),
        "gradient": lambda: SumCheck(found, lambda length: 1 / n, dtype, label, times),
        "moments": lambda: MomentsCheck(found, n, dtype, label),
        "clipped_sum": lambda: SumCheck(found, _clips(options.get("max_norm", 1.0)), dtype, label, times),
    }
    if quantity.of_outputs:
        return RowsCheck(found, places, dtype, label)
    if quantity.name in makers:
        return makers[quantity.name]()
    return DefinitionCheck(quantity, found, places, options, batch, label, times)


def _clips(max_norm: float) -> Callable[[float], float]:
    return lambda length: 1 / max(length / max_norm, 1.0)  # NaN of a length that is NaN
