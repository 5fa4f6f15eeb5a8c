"""The fixture `benchmark` in a worker of `ab`: it times in turns with the other side, and leaves no statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any

from gradkernels.bench.timing.slices import Clock, TimedCall

Timed = Callable[[TimedCall, Callable[[], Any]], Any]
"""Times a call, and returns what a test is to go on with: the second makes a call and returns what that gives."""


@dataclass(frozen=True)
class OneCall:
    """A function with what `benchmark.pedantic` may have for it.

    Attributes:
        function: What is timed.
        args: Its arguments.
        kwargs: Likewise, by name.
        setup: Called before each call, outside of the time; may return other args and kwargs.
        teardown: Called after each call with its arguments, outside of the time.
    """

    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    setup: Callable[[], Any] | None = None
    teardown: Callable[..., Any] | None = None

    @property
    def timed(self) -> TimedCall:
        """The call, and the clock that knows which part of it counts."""
        if self.setup is None and self.teardown is None:
            return TimedCall("benchmark", partial(self.function, *self.args, **(self.kwargs or {})))
        return TimedCall("benchmark", self.make, clock=self._clock)

    def make(self) -> Any:
        """Call it once, all around it included."""
        return self._clocked()[1]

    @property
    def _clock(self) -> Clock:
        return lambda call, iterations: sum(self._clocked()[0] for _ in range(iterations)) / iterations

    def _clocked(self) -> tuple[float, Any]:
        """Call it once; return its own seconds, and what it gives."""
        args, kwargs = (self.setup() if self.setup else None) or (self.args, self.kwargs or {})
        started = perf_counter_ns()
        result = self.function(*args, **kwargs)
        seconds = (perf_counter_ns() - started) * 1e-9
        if self.teardown:
            self.teardown(*args, **kwargs)
        return seconds, result


def replace_fixture(timed: Timed) -> None:
    """Have `benchmark(...)` and `benchmark.pedantic(...)` of this process call `timed` instead of measuring."""
    from pytest_benchmark.fixture import BenchmarkFixture

    def call(fixture: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        fixture.skipped = True  # or it complains that it was not used
        one = OneCall(function, args, kwargs)
        return timed(one.timed, one.make)

    def pedantic(
        fixture: Any,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        rounds: int = 1,  # these three this timing chooses by itself
        warmup_rounds: int = 0,
        iterations: int = 1,
    ) -> Any:
        fixture.skipped = True
        one = OneCall(target, args, kwargs, setup, teardown)
        return timed(one.timed, one.make)

    replaced: Any = BenchmarkFixture
    replaced.__call__, replaced.pedantic = call, pedantic
