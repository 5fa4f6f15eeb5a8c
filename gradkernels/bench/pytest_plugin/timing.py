"""Prove, time with pytest-benchmark, prove again on other data: no time is left without a proof."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NoReturn

import pytest

from gradkernels.backend import Array
from gradkernels.bench.pytest_plugin.rows import SessionRows
from gradkernels.bench.pytest_plugin.threads import limited
from gradkernels.bench.results.imports.pytest_benchmark import extra_info, statistics
from gradkernels.case import Case, Inputs
from gradkernels.check import Disagreement, Unprovable, prove
from gradkernels.check.call_options import with_needed
from gradkernels.check.reference import Reference
from gradkernels.kernel import Compute, Kernel
from gradkernels.key import OUT
from gradkernels.quantity import QUANTITIES
from gradkernels.record import Measurement, Record, Status
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import leaves

PROBE_ROWS = 100


def prove_and_time(
    benchmark: Any,
    rows: SessionRows,
    kernel: Kernel | str,
    case: Case,
    out: bool = False,
    *,
    max_call: float = float("inf"),
) -> Any:
    """Prove the kernel on the case, time that same compute, and prove it again on `case.fresh()`.

    Inputs are converted before, results are waited for within the time. The group becomes `linear gradient
    n=1000` unless a marker names one; `benchmark.extra_info` gets the kernel's key, its error and tolerance, and
    every column of the results file that pytest-benchmark does not save by itself.

    Args:
        benchmark: pytest-benchmark's fixture of the test.
        rows: The session's rows.
        kernel: A Kernel or its key.
        case: What to compute; its threads are a limit, and what is in force is what is recorded.
        out: Whether to hand the kernel memory for its result; its key then ends in `@out`.
        max_call: Seconds; a Python loop whose call would take longer skips the test.

    Returns:
        The kernel's result.

    Raises:
        Disagreement: The result is wrong, before or after; no time is kept.
        ValueError: No such kernel, or `out` for a kernel that does not take it.
    """
    __tracebackhide__ = True
    test = _test(rows, kernel, case, out)
    with limited(test.kernel.backend, case.threads) as threads:
        return _measure(benchmark, rows, test.with_threads(threads), case.for_proof(), max_call)


def _test(rows: SessionRows, kernel: Kernel | str, case: Case, out: bool) -> KernelTest:
    """Return what is to be timed; skip the pytest test if it is timed already, or cannot be."""
    __tracebackhide__ = True
    kernel = kernel_by_key(kernel) if isinstance(kernel, str) else kernel
    if out and not kernel.out:
        raise ValueError(f"{kernel.key} takes no out=; leave out=True away")
    test = KernelTest(kernel, out, rows.facts_of(case))
    if not rows.first(test.key, case):
        pytest.skip(f"{test.key} has its row of this case already; a pass has one for each")
    if reasons := kernel.unsupported(case):
        rows.add(test.record(Status.unsupported, "; ".join(reasons)))
        pytest.skip("; ".join(reasons))
    return test


@dataclass(frozen=True)
class KernelTest:
    """A kernel on a case in a session.

    Attributes:
        kernel: The kernel.
        out: Whether it is handed memory for its result.
        facts: What its record says before anything has run.
    """

    kernel: Kernel
    out: bool
    facts: dict[str, Any]

    @property
    def key(self) -> str:
        """Key of the kernel, which ends in `@out` if it is handed memory."""
        return self.kernel.key + (OUT if self.out else "")

    def with_threads(self, threads: int) -> KernelTest:
        """Return the same test with the number of threads that are in force."""
        case = replace(self.facts["case"], threads=threads)
        return replace(self, facts={**self.facts, "case": case})

    def record(self, status: Status, reason: str = "", **values: Any) -> Record:
        """Return the record.

        Args:
            status: What became of the kernel.
            reason: Why, if it is not ok.
            values: Further values of the measurement.
        """
        return Record(
            **self.facts, measurement=Measurement(self.key, self.kernel.backend.name, status, reason, **values)
        )


def group(case: Case) -> str:
    """Return `linear gradient n=1000`, and whatever else is not as in a plain case."""
    unusual = (f"{name}={value}" for name, value in case.coordinates.unusual().items())
    return " ".join((case.problem.name, case.quantity.name, f"n={case.n}", *unusual))


def _measure(benchmark: Any, rows: SessionRows, test: KernelTest, case: Case, max_call: float) -> Any:
    __tracebackhide__ = True
    kernel, called = test.kernel, False
    try:
        if reason := _too_slow(kernel, case, max_call):
            rows.add(test.record(Status.timeout, reason))
            pytest.skip(reason)
        inputs, reference = _data(case)
        arrays = kernel.backend.put(inputs, case.device)
        compute, call, first = _set_up(kernel, case, inputs, test.out)
        before = prove(kernel, compute, case, inputs, reference)
        benchmark.group = benchmark.group or group(case)
        called = True
        rows.beside(test.facts)
        result = benchmark(call, *arrays)
        rows.beside(test.facts)
        # A compute that remembers its first answer passes the first proof and not this one.
        after = prove(kernel, compute, case.fresh(), *_data(case.fresh()))
    except Exception as error:
        rows.add(_failure(test, error))
        _withhold(benchmark, called, error)
    worst = max(before, after, key=lambda proof: proof.error)
    _keep(benchmark, rows, test, {"error": worst.error, "tolerance": worst.tolerance, "seconds_first": first})
    return result


@lru_cache(maxsize=4)
def _shared(case: Case) -> tuple[Inputs, Reference]:
    inputs = case.draw()
    for array in leaves(inputs):
        array.setflags(write=False)
    return inputs, Reference(case.problem, *inputs)


def _data(case: Case) -> tuple[Inputs, Reference]:
    """Return read-only inputs and reference of a case: the dear part, shared by all kernels, quantities and devices."""
    return _shared(replace(case, quantity=QUANTITIES["per_sample"], device="cpu", threads=1))


def _set_up(kernel: Kernel, case: Case, inputs: Inputs, out: bool) -> tuple[Compute, Callable[..., Any], float]:
    """Return the compute, the call to time, and the seconds that building and the first call took."""
    arrays = kernel.backend.put(inputs, case.device)
    start = time.perf_counter()
    compute = kernel.build(case.problem)
    whole = with_needed(compute, case, inputs, kernel.backend)
    first_result = kernel.backend.wait(whole(*arrays))
    first = time.perf_counter() - start
    into = partial(whole, out=first_result) if out else whole
    # Where the result is there when compute returns, a wrapper would only add to the time of small cases.
    call = into if kernel.backend.eager(case.device) else partial(_waited, kernel.backend.wait, into)
    return compute, call, first


def _waited(wait: Callable[[Any], Any], compute: Compute, *arrays: Array) -> Any:
    return wait(compute(*arrays))


def _too_slow(kernel: Kernel, case: Case, max_call: float) -> str:
    """Return why a call of a Python loop costs too much, judged by a small case; empty when it does not."""
    if not kernel.loops or case.n <= PROBE_ROWS:
        return ""
    probe = replace(case, n=PROBE_ROWS)
    inputs = probe.draw()
    arrays = kernel.backend.put(inputs, case.device)
    compute = with_needed(kernel.build(case.problem), probe, inputs, kernel.backend)
    seconds = min(_seconds(kernel, compute, arrays) for _ in range(3)) * case.n / PROBE_ROWS
    if seconds <= max_call:
        return ""
    return f"a call of {kernel.key} at n={case.n} would take about {seconds:.2g} s, more than {max_call:g} s"


def _seconds(kernel: Kernel, compute: Compute, arrays: list[Array]) -> float:
    start = time.perf_counter()
    kernel.backend.wait(compute(*arrays))
    return time.perf_counter() - start


def _keep(benchmark: Any, rows: SessionRows, test: KernelTest, found: dict[str, Any]) -> None:
    facts = {**test.facts, **vars(test.facts["case"]), "kernel": test.key, "backend": test.kernel.backend.name}
    benchmark.extra_info.update(extra_info(facts | found))
    if benchmark.stats is not None:
        rows.add(test.record(Status.ok, **found, **statistics(benchmark.stats)))


def _failure(test: KernelTest, error: Exception) -> Record:
    says = " ".join(str(error).split())
    if isinstance(error, Disagreement):
        return test.record(Status.failed if isinstance(error, Unprovable) else Status.wrong, says)
    return test.record(Status.failed, f"{type(error).__name__}: {says}")


def _withhold(benchmark: Any, called: bool, error: Exception) -> NoReturn:
    """Fail the test and leave no time in pytest-benchmark's table and files."""
    __tracebackhide__ = True
    if not called:
        # pytest-benchmark warns of a fixture that was never called; switched off, a call of it takes no time.
        benchmark.disabled = True
        benchmark(_throw, error)
    benchmark.has_error = True
    if benchmark.stats is not None:
        benchmark.stats.stats.data.clear()
    raise error


def _throw(error: Exception) -> NoReturn:
    raise error
