"""What a call with dask arrays is given besides theta, x and y: for all blocks the same, cut into them, or a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

from gradkernels.problems import Problem
from gradkernels.quantity import Option, Options, Quantity
from gradkernels.scale.block_task import BlockColumn
from gradkernels.scale.blocked import Samples, blocked, cut_into, memoryless, require_array
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import each


@dataclass(frozen=True, eq=False)
class LazyOptions:
    """The options of a call.

    Attributes:
        fixed: Those that are the same for all blocks, by name.
        by_sample: Those with an entry for each sample, in blocks like x, by name.
        other: The samples of a batch, where there is one.
        stand_ins: All of them, numpy arrays of no rows in place of dask's: shapes and dtypes count.
    """

    fixed: Options
    by_sample: dict[str, da.Array]
    other: Samples | None
    stand_ins: Options

    @property
    def columns(self) -> tuple[BlockColumn, ...]:
        """What those by sample are called."""
        return tuple(BlockColumn(name, str(array.dtype)) for name, array in self.by_sample.items())


def looked_at(quantity: Quantity, options: Options, problem: Problem, theta: Any, samples: Samples) -> LazyOptions:
    """Look at the options of a call, as far as they are known before there are any blocks.

    Args:
        quantity: What is asked.
        options: As the caller gave them.
        problem: A regression.
        theta: Parameters, or an array like them.
        samples: Of the call.

    Raises:
        TypeError: One is missing, or not of the right kind.
        ValueError: One has a wrong shape or value.
    """
    n, found = sum(samples.rows), LazyOptions({}, {}, None, {})
    other = None
    for option in quantity.options:
        value = options.get(option.name)
        if value is None:
            if option.required:
                raise TypeError(f"{quantity} has no {option.name}; pass {option.name}=")
        elif option.batch:
            _, *batch = problem.as_inputs(theta, *option.checked(value, n, theta))
            other = blocked(problem, theta, *batch)
            found.stand_ins[option.name] = each(memoryless, (other.x, other.y))
        elif option.by_sample:
            array, found.stand_ins[option.name] = _by_sample(option, value, n, theta)
            found.by_sample[option.name] = cut_into(array, samples.rows)
        else:
            found.fixed[option.name] = found.stand_ins[option.name] = option.checked(value, n, theta)
    quantity.agree(found.stand_ins)
    return LazyOptions(found.fixed, found.by_sample, other, found.stand_ins)


def _by_sample(option: Option, value: Any, n: int, theta: Any) -> tuple[Any, Any]:
    """Return an option by sample, and what stands in for it."""
    if not is_lazy(value):
        checked = option.checked(value, n, theta)
        return checked, checked
    require_array(option.name, value)
    if not value.ndim or value.shape[0] != n:
        raise ValueError(f"{option.name} is {value.shape}; its first axis must have the {n} samples")
    return value, option.checked(np.zeros((0, *value.shape[1:]), value.dtype), 0, theta)
