"""In a fresh process: functions on copies of the same arguments, held against the first of them, timed in turns."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.api.alike import same
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.errors import failure_reason
from gradkernels.bench.results.functions import FUNCTION, function_key
from gradkernels.bench.run.own_code import read_pickled
from gradkernels.bench.timing.control import control
from gradkernels.bench.timing.prepared_kernel import EXACT, slice_statistics
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up
from gradkernels.key import CONTROLS
from gradkernels.record import Measurement, Status

Agree = Callable[[Any, Any], object]


@dataclass(frozen=True)
class FunctionRace:
    """What is raced, as it travels to the processes that measure.

    Attributes:
        functions: By name; the first is what the others are held against.
        make: `make(n)`, a tuple of arguments.
        agree: `agree(result, that of the first)`, whether they are the same.
    """

    functions: dict[str, Callable[..., Any]]
    make: Callable[[int], Any]
    agree: Agree


def measured_columns(source: str, names: Sequence[str], sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Prove and time functions at each size; return the columns of their measurements, with `n`.

    Args:
        source: Path of a pickled FunctionRace.
        names: Of the functions.
        sizes: Numbers that `make` is called with.
        seconds: For the timing at one size.
    """
    race: FunctionRace = read_pickled(source)
    return [{"n": n, **asdict(one)} for n in sizes for one in _at_size(race, names, n, seconds)]


def refused(name: str, reason: str, status: Status = Status.failed) -> Measurement:
    """Return the measurement of a function that is not timed.

    Args:
        name: Of the function.
        reason: Why.
        status: What became of it.
    """
    return Measurement(function_key(name), FUNCTION, status, reason)


def without_first(first: str, why: str, names: Sequence[str]) -> list[Measurement]:
    """Return what is known where the first function gives no result: nothing of the others.

    Args:
        first: Its name.
        why: What happened to it.
        names: Of those that were to be measured.
    """
    nothing = f"there is nothing to hold it against: {first}: {why}"
    return [refused(name, why if name == first else nothing) for name in names]


def _asynchronous() -> list[str]:
    """Return the libraries in use that may compute on after a call has returned; all others are timed bare."""
    torch = sys.modules.get("torch")
    in_use = {"jax": "jax" in sys.modules, "torch": torch is not None and torch.cuda.is_initialized()}
    return [library for library, used in in_use.items() if used]


def _at_size(race: FunctionRace, names: Sequence[str], n: int, seconds: float) -> list[Measurement]:
    try:
        given = race.make(n)
        functions = _FunctionTiming(race, given if isinstance(given, tuple) else (given,))
    except BaseException as fault:  # a caller's code may raise anything
        return [refused(name, f"make({n}) raised {failure_reason(fault)}") for name in names]
    if says := functions.call_first():
        return without_first(next(iter(race.functions)), says, names)
    for name in names:
        functions.prepare(name)
    functions.time(seconds)
    return functions.recheck()


class _FunctionTiming:
    """The functions at one size.

    Args:
        race: What is raced.
        given: The arguments, which no function is given itself.
    """

    def __init__(self, race: FunctionRace, given: tuple[Any, ...]) -> None:
        self._race, self._given = race, copy.deepcopy(given)
        self._first = next(iter(race.functions))
        self._done: list[Measurement] = []
        self._seconds_first: dict[str, float] = {}
        self._calls = {name: TimedCall(name, compute) for compute in (control(),) for name in CONTROLS}
        self._current = ""
        self._reference: Any = None

    def call_first(self) -> str:
        """Call the first function, whose result is the reference; return why there is none."""
        try:
            self._reference = self._result(self._first, copy.deepcopy(self._given))
        except BaseException as fault:  # a function may raise anything, and the race goes on
            return failure_reason(fault)
        return ""

    def prepare(self, name: str) -> None:
        """Call a function once and hold its result against that of the first."""
        own = copy.deepcopy(self._given)
        try:
            with environment.preserved_process_state():
                started = time.perf_counter()
                result = self._result(name, own)
                self._seconds_first[name] = time.perf_counter() - started
                says = self._fault(name, result, own)
        except BaseException as fault:  # a function may raise anything, and the race goes on
            self._refuse(name, Status.failed, failure_reason(fault))
            return
        if says:
            self._refuse(name, Status.wrong, says)
        else:
            bare = partial(self._race.functions[name], *own)
            self._calls[name] = TimedCall(name, partial(self._result, name, own) if _asynchronous() else bare)

    def time(self, seconds: float) -> None:
        """Time what is prepared, in turns."""
        for name in list(self._calls):
            self._attempt(partial(warm_up, self._calls[name], seconds / 4 / len(self._calls), self._begin))
        rng, until = np.random.default_rng(), time.perf_counter() + seconds
        while not self._attempt(
            lambda: time_interleaved(
                [*self._calls.values()], until - time.perf_counter(), lambda: None, rng, self._begin
            )
        ):
            pass

    def recheck(self) -> list[Measurement]:
        """Hold what was timed against the first once more, on fresh copies, and return the measurements."""
        for name in [name for name in self._calls if name not in CONTROLS]:
            own = copy.deepcopy(self._given)
            try:
                says = self._fault(name, self._result(name, own), own)
            except BaseException as fault:  # as above
                says = failure_reason(fault)
            if says:
                self._refuse(name, Status.wrong, f"after timing: {says}")
        return self._done + [self._measurement(name, timed) for name, timed in self._calls.items()]

    def _measurement(self, name: str, timed: TimedCall) -> Measurement:
        is_function = name not in CONTROLS
        return Measurement(
            function_key(name) if is_function else name,
            FUNCTION if is_function else "numpy",
            Status.ok,
            timed.note,
            error=EXACT.error,
            tolerance=EXACT.tolerance,
            seconds_first=self._seconds_first.get(name),
            **slice_statistics(timed),
        )

    def _result(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Call a function and wait for what it gives, where libraries compute on after a call has returned."""
        result = self._race.functions[name](*arguments)
        for library in _asynchronous():
            result = BACKENDS[library].wait(result)
        return result

    def _fault(self, name: str, result: Any, own: tuple[Any, ...]) -> str:
        """Return what is wrong with a result, or with the arguments after the call; nothing if nothing is."""
        if not all(same(one, other) for one, other in zip(own, self._given, strict=True)):
            return "it changes its arguments"
        if name == self._first or self._race.agree(result, self._reference):
            return ""
        return f"its result does not agree with that of {self._first}"

    def _attempt(self, do: Callable[[], object]) -> bool:
        """Do something; return whether no function failed at it. One that did is left out."""
        try:
            do()
        except BaseException as fault:  # as above
            if self._current in CONTROLS:
                raise
            self._refuse(self._current, Status.failed, failure_reason(fault))
            return False
        return True

    def _begin(self, timed: TimedCall) -> None:
        self._current = timed.name

    def _refuse(self, name: str, status: Status, reason: str) -> None:
        self._calls.pop(name, None)
        self._done.append(refused(name, reason, status))
