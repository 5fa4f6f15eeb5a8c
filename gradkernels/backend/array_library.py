"""What differs between libraries with arrays of their own, as one row of functions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
"""A numpy array, a torch tensor or a JAX array: no static type exists that all three satisfy."""


def _itself(value: Any) -> Any:
    return value


def _sum_by(rows: Any, groups: Any, count: int) -> Any:
    """Sum numpy's rows by group, each group's together: what is NaN in one stays in it."""
    sums = np.zeros((count, *rows.shape[1:]), rows.dtype)
    if len(rows):
        order = np.argsort(groups, kind="stable")
        numbers, starts = np.unique(groups[order], return_index=True)
        sums[numbers] = np.add.reduceat(rows[order], starts, 0)
    return sums


@dataclass(frozen=True, eq=False)
class ArrayLibrary:
    """What differs between libraries with arrays of their own; what is left out is as numpy has it.

    Attributes:
        name: Import name.
        array_type: Name of the class of its arrays in that module.
        namespace: Name of the module with its functions of arrays, where it is another.
        put: `put(array, device)`, a numpy array as one of its own; None where it is one.
        get: `get(array)`, one of its arrays as numpy, writable; None where it is numpy's.
        cast: `cast(array, dtype)`, the array in another dtype.
        device_of: `device_of(array)`, the name of the device that it is on.
        layout: `layout(array)`, its memory order as kernels are told apart by it: `C`, or `F` for columns together.
        wait: `wait(result)`, the result once it is computed: an array, or a tree of arrays.
        eager_on: Kinds of device on which a result is computed when the call returns.
        compile: `compile(function)`, as the library's users would compile it.
        refuses: `refuses(dtype, device)`, reasons why it cannot compute so in this process.
        fresh_arrays: A context in which arrays can be written to and differentiated by, whatever mode the caller is in.
        in_own_dtype: `in_own_dtype(function, device)`, the same in the arrays' dtype whatever mode the caller is in;
            on any device where none is named.
        all_between: `all_between(array, low, high)`, whether every entry is above `low` and at most `high`, of which
            minus infinity is not looked at; None where no entry is known while a function is compiled.
        threads: `threads()`, how many threads its functions use in this process.
        limited: `limited(threads)`, a context in which they use at most so many, where a running process can be told.
        sum_by: `sum_by(rows, groups, count)`, sums of rows by the number of each one's group, `(count, ...)`.
        read_only: Why its arrays cannot be written to; empty where they can.
    """

    name: str
    array_type: str
    namespace: str = ""
    put: Callable[[Any, str], Any] | None = None
    get: Callable[[Any], Any] | None = None
    cast: Callable[[Any, str], Any] = lambda array, dtype: array.astype(dtype)
    device_of: Callable[[Any], str] = lambda array: "cpu"
    layout: Callable[[Any], str] = lambda array: "C"
    wait: Callable[[Any], Any] = _itself
    eager_on: tuple[str, ...] = ("cpu",)
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = _itself
    refuses: Callable[[str, str], list[str]] = lambda dtype, device: []
    fresh_arrays: Callable[[], AbstractContextManager[None]] = nullcontext
    in_own_dtype: Callable[[Callable[..., Any], str], Callable[..., Any]] = lambda function, device: function
    all_between: Callable[[Any, float, float], bool] | None = None
    threads: Callable[[], int] = lambda: 1
    limited: Callable[[int], AbstractContextManager[Any]] = lambda threads: nullcontext()
    sum_by: Callable[[Any, Any, int], Any] = _sum_by
    read_only: str = ""
