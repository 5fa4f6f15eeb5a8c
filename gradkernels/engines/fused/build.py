"""Drivers and slopes, compiled when first needed, and called for chunks of a batch.

Every driver is compiled once for each dtype, number of axes of theta and x, and presence of weights, whatever the
problem and the memory layout: the slope is called through its address, once for a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import RLock
from typing import Any

import numpy as np
from numba import cfunc, from_dtype, njit, types

from gradkernels.engines.fused.codegen.arrays import aligned, check_dtypes, show_swapped
from gradkernels.engines.fused.codegen.options import ENTERED, FAST, ORDERED, REASSOCIATED
from gradkernels.engines.fused.codegen.pointers import (
    STACK,
    Pointer,
    call_address,
    cast_pointer,
    is_whole,
    keep_alive,
    pointer,
    real_at,
    stack_memory,
    whole_at,
)
from gradkernels.engines.fused.codegen.simd import BYTES, lanes
from gradkernels.engines.fused.codegen.slopes import cached_on_disk, compiled_slope, with_stable_name
from gradkernels.engines.fused.drivers.workspace import (
    INTERCEPT,
    RESULT_FLOAT64,
    TARGETS_INT32,
    TARGETS_INT64,
    WEIGHTED,
    BatchPointers,
)

THETA, RESULT = 0, 4  # places of the arguments that may be written to
_LOCK = RLock()
Driver = tuple[Callable[..., None], Callable[..., int]]
"""What goes through a batch, and the memory it takes."""


CORE, SLOPE_ADDRESS, FLAGS, START, STOP, L2, MAX_NORM, MORE, COUNT = range(9)
"""Places in a plan, the memory that tells `_enter` what to do.

Two addresses, whole numbers, two float64 numbers; the address of what else a driver takes, and a number for that.
"""
UNCLIPPED = -1.0


class CallPlans:
    """The plans of a problem and driver: memory that tells compiled code what to call, with which numbers.

    Attributes:
        ready: Address of the plan for a whole batch by the dtype's size, once it is made.
    """

    def __init__(self, driver: Driver, problem: Any, flags: int = 0) -> None:
        self._driver, self._problem = driver, problem
        self._flags = flags | INTERCEPT * problem.fit_intercept
        self.ready: dict[int, int] = {}
        self._kept: dict[int, Any] = {}  # an address lives as long as what it is of

    def __getitem__(self, size: int) -> int:
        """Return the plan's address for float64 (8) or float32 (4); compile what is missing."""
        if size in self.ready:
            return self.ready[size]
        if size not in (4, 8):
            raise TypeError(f"theta has {size} bytes an entry; it must be float64 or float32; convert it with astype")
        made = compiled_driver(self._driver, size), compiled_slope(self._problem, f"float{8 * size}")
        plan = np.array([made[0].address, made[1].address, self._flags, 0, -1, 0, 0, 0, 0])
        plan[L2:MORE] = np.array([self._problem.l2, UNCLIPPED]).view(np.int64)
        kept, _ = self._kept.setdefault(size, (plan, made))  # another thread may have made one meanwhile
        return self.ready.setdefault(size, kept.ctypes.data)

    def _whole(self, size: int) -> Any:
        return self[size] and self._kept[size][0]

    def part(
        self,
        size: int,
        start: int,
        stop: int,
        max_norm: float = UNCLIPPED,
        clear: int = 0,
        more: tuple[int, int] = (0, 0),
    ) -> Any:
        """Return the plan for some rows, to be kept while its address is used.

        Args:
            size: Bytes of an entry of theta, 8 or 4.
            start: First row.
            stop: Row after the last one; -1 for all.
            max_norm: Norm that rows are clipped to; negative for none.
            clear: Flags that are taken off.
            more: Address of what else the driver takes, and a number for that.
        """
        plan = self._whole(size).copy()
        plan[FLAGS] &= ~clear
        plan[START:L2] = start, stop
        plan[MAX_NORM:].view(np.float64)[0] = max_norm
        plan[MORE:] = more
        return plan


def _enter(theta, x, y, w, result, plan):
    """Call a driver with addresses and steps: compiled for each kind of arguments, and the same for every driver.

    Without a result, which saves a twentieth of a microsecond, theta's memory gets it.
    """
    (theta_row, theta_column, _), (row, column, _) = _steps(theta), _steps(x)
    if result is None:
        step0, step1, step2 = _steps(theta)
    else:
        step0, step1, step2 = _steps(result)
    classes = theta.shape[1] if theta.ndim == 2 else 1
    d = x.shape[1] if x.ndim == 2 else 1
    if len(y) != len(x) or len(theta) != d + (whole_at(plan, FLAGS) & INTERCEPT):
        raise ValueError(
            "theta, x and y do not fit together; their shapes must be those that the problem's shape() tells"
        )
    line = pointer(theta)
    weights, w_step, flags = line, 0, whole_at(plan, FLAGS)
    if w is not None:
        if len(w) != len(x):
            raise ValueError("sample_weight must have an entry for each sample")
        weights, w_step = pointer(w), _steps(w)[0]
        flags |= WEIGHTED
    if is_whole(y):
        flags |= TARGETS_INT64 if y.itemsize == 8 else TARGETS_INT32
    target = line
    if result is not None:
        target = cast_pointer(pointer(result), line)
        if result.itemsize > theta.itemsize:
            flags |= RESULT_FLOAT64
    start, stop = whole_at(plan, START), whole_at(plan, STOP)
    if stop < 0:
        stop = len(x)
    steps = (theta_row, theta_column, classes, row, column, d, _steps(y)[0], w_step, step0, step1, step2)
    rest = (whole_at(plan, SLOPE_ADDRESS), flags, real_at(plan, L2), real_at(plan, MAX_NORM), start, stop)
    own = (whole_at(plan, MORE), whole_at(plan, COUNT))
    arrays = (line, pointer(x), cast_pointer(pointer(y), line), weights, target)
    call_address(whole_at(plan, CORE), arrays + steps + rest + own)


@njit(**ORDERED)
def _steps(array):
    """Return the elements between neighbours along up to three axes."""
    size, strides = BYTES // lanes(pointer(array)), array.strides  # a constant: dividing by it is a shift
    for stride in strides:
        if stride % size:
            raise TypeError("fractions of an element between neighbours")
    if array.ndim == 1:
        return strides[0] // size, 0, 0
    if array.ndim == 2:
        return strides[0] // size, strides[1] // size, 0
    return strides[0] // size, strides[1] // size, strides[2] // size


DRIVER: Any = None
WORKSPACE_SIZE: Any = None


def _core(theta, x, y, w, result, a, b, c, d, e, f, g, h, i, j, k, function, flags, l2, max_norm, start, stop, m, o):
    batch = BatchPointers(
        theta, x, y, w, result, a, b, c, d, e, f, g, h, i, j, k, function, flags, l2, max_norm, start, stop, m, o
    )
    size, memory = WORKSPACE_SIZE(batch), stack_memory()
    if size > STACK:
        memory = np.empty(size)
    DRIVER(batch, pointer(memory))
    keep_alive(memory)


@cache
def compiled_driver(driver: Driver, size: int) -> Any:
    """Compile a driver for float64 (8) or float32 (4), whatever the problem and the memory layout."""
    dtype = np.dtype(f"float{8 * size}")
    line, whole, real = Pointer(from_dtype(dtype)), types.intp, types.float64
    signature = types.void(*[line] * 5, *[whole] * 13, real, real, *[whole] * 4)
    # The driver becomes part of _core before it is compiled: on its own, all that it calls would be compiled once more.
    run, workspace_size = njit(inline="always", **FAST)(driver[0]), njit(**FAST)(driver[1])
    source = with_stable_name(_core, driver[0].__name__, str(dtype), DRIVER=run, WORKSPACE_SIZE=workspace_size)
    with _LOCK:
        return cached_on_disk(cfunc, signature, **ENTERED, **REASSOCIATED)(source)


class EntryPoint:
    """The function that Python calls, compiled when it first meets a dtype and number of axes.

    Attributes:
        run: Calls it, without a detour; a TypeError if it is not compiled for such arguments.

    Args:
        nogil: Whether to let Python's other threads run meanwhile, which takes a tenth of a microsecond.
    """

    def __init__(self, nogil: bool) -> None:
        self.run: Callable[..., None] = _nothing_compiled
        self._options = {**ENTERED, "nogil": nogil}
        self._signatures: dict[Any, None] = {}

    def __call__(self, *args: Any) -> None:
        """Run the driver, compiled now if need be."""
        try:
            self.run(*args)
        except TypeError:
            ready = aligned(*args)
            self._compile(_signature(ready))
            self.run(*ready)
            for place in (THETA, RESULT):
                if ready[place] is not args[place]:
                    args[place][...] = ready[place]

    def _compile(self, signature: Any) -> None:
        """Make a new dispatcher with one signature more; giving it to one in use would open it to every layout."""
        with _LOCK:
            if signature not in self._signatures:
                every = [*self._signatures, signature]
                self.run = cached_on_disk(njit, every, **self._options)(with_stable_name(_enter, str(self._options)))
                show_swapped(self.run)
                self._signatures[signature] = None  # not before: one that fails would fail every later one


def _nothing_compiled(*args: Any) -> None:
    raise TypeError


def _signature(args: list[Any]) -> Any:
    def kind(place: int, arg: Any) -> Any:
        if isinstance(arg, np.ndarray):
            return types.Array(from_dtype(arg.dtype), arg.ndim, "A", readonly=place != RESULT)
        return types.none if arg is None else types.float64 if isinstance(arg, float) else types.intp

    check_dtypes(*args[: RESULT + 1])
    return types.void(*(kind(place, arg) for place, arg in enumerate(args)))


ENTRY, RELEASED = EntryPoint(nogil=False), EntryPoint(nogil=True)
