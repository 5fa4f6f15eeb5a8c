"""From kernels to entrants: build, first call, proof, warm-up; then the race, and a second proof.

What comes out is one `Outcome` per kernel: the columns of its row that the child process knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS, Backend
from gradkernels.bench.inputs import SharedInputs
from gradkernels.bench.timing import Entrant, race, warm_up
from gradkernels.case import Case, Inputs
from gradkernels.check import Disagreement, Proof, prove
from gradkernels.kernel import Compute, Kernel
from gradkernels.quantity import leaves
from gradkernels.reference import Reference
from gradkernels.wisdom import CONVERT, YARDSTICKS

CALLS = 8  # of a kernel in one case: first, proofs before and after, warm-up, three slices
OUT = "@out"


@dataclass(frozen=True)
class Outcome:
    """What a child process found out about one kernel on one case."""

    kernel: str
    backend: str
    status: str
    reason: str = ""
    error: float | None = None
    tolerance: float | None = None
    rounds: int | None = None
    iterations: int | None = None
    seconds_median: float | None = None
    seconds_min: float | None = None
    seconds_q25: float | None = None
    seconds_q75: float | None = None
    seconds_first: float | None = None
    peak_bytes: int | None = None

    def values(self) -> dict[str, Any]:
        """The columns as a dict."""
        return asdict(self)


@dataclass(frozen=True)
class Ready:
    """A kernel that is built and proven, waiting for its race.

    Attributes:
        kernel: The kernel; None for the yardsticks and the conversions.
        compute: What was proven and is timed.
        entrant: Its slices.
        outcome: Status `ok` with the proof, and the first call's time.
    """

    kernel: Kernel | None
    compute: Compute | None
    entrant: Entrant
    outcome: Outcome


class Contest:
    """One case in one pass: prepares kernels one by one, races them, proves them again.

    Args:
        case: What to compute.
        inputs: The case's data as numpy arrays.
        fresh: Other data of the same shapes, for the proof after the race.
        libraries: Names of the libraries that take part.
        rng: For placements and orders.
    """

    def __init__(
        self, case: Case, inputs: Inputs, fresh: Inputs, libraries: Sequence[str], rng: np.random.Generator
    ) -> None:
        self.case = case
        self.shared = SharedInputs(inputs, {"numpy", *libraries}, case.device, rng)
        self.reference = Reference(case.problem, *inputs)
        self.fresh = fresh
        self.rng = rng
        self.ready: list[Ready] = _yardsticks()

    def prepare(self, kernel: Kernel) -> Outcome:
        """Build, call once, prove and warm up; the outcome is `ok` (without times yet), `wrong` or `failed`."""
        blank = Outcome(kernel.key, kernel.backend.name, "ok")
        try:
            started = perf_counter()
            compute = kernel.build(self.case.problem)
            result = kernel.backend.wait(compute(*self.shared.arrays[kernel.backend.name]))
            first = perf_counter() - started
            proof = prove(kernel, compute, self.case, self.shared.inputs, self.reference)
        except Disagreement as disagreement:
            return replace(blank, status="wrong", reason=str(disagreement))
        except Exception as fault:  # a kernel may raise anything, and the run goes on
            return replace(blank, status="failed", reason=f"{type(fault).__name__}: {fault}".splitlines()[0])
        proven = replace(blank, error=proof.error, tolerance=proof.tolerance, seconds_first=first)
        for name, options in self._variants(kernel, result):
            call = self._call(kernel.backend, compute, options)
            self.ready.append(Ready(kernel, compute, Entrant(name, call), replace(proven, kernel=name)))
        self._convert(kernel.backend, result)
        return proven

    def race(self, seconds: float) -> Iterator[Outcome]:
        """Time everything that is ready, prove it again on fresh data, and give the outcomes."""
        entrants = [ready.entrant for ready in self.ready]
        for entrant in entrants:
            warm_up(entrant, seconds / 4 / len(entrants))
        race(entrants, seconds, self.shared.renew, self.rng)
        again = Reference(self.case.problem, *self.fresh)
        for ready in self.ready:
            yield self._conclude(ready, again)

    def _variants(self, kernel: Kernel, result: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        yield kernel.key, {}
        if kernel.out:
            out = kernel.backend.put(np.empty_like(kernel.backend.get(result)), self.case.device)
            yield kernel.key + OUT, {"out": out}

    def _call(self, backend: Backend, compute: Compute, options: dict[str, Any]) -> Callable[[], object]:
        arrays, name, wait = self.shared.arrays, backend.name, backend.wait
        if not backend.eager(self.case.device):
            return lambda: wait(compute(*arrays[name], **options))
        if options:
            return lambda: compute(*arrays[name], **options)
        return lambda: compute(*arrays[name])

    def _convert(self, backend: Backend, result: Any) -> None:
        """Time, on its own, what a caller with numpy arrays pays to use this library."""
        name = CONVERT + backend.name
        if backend.name == "numpy" or any(ready.entrant.name == name for ready in self.ready):
            return
        arrays, device = self.shared.arrays, self.case.device

        def convert() -> None:
            for array in arrays["numpy"]:
                backend.wait(backend.put(array, device))
            for leaf in leaves(result):
                backend.get(leaf)

        there_and_back = (backend.get(backend.put(array, device)) for array in self.shared.inputs)
        if all(map(partial(np.array_equal, equal_nan=True), there_and_back, self.shared.inputs)):
            outcome = Outcome(name, backend.name, "ok", error=0.0, tolerance=0.0)
            self.ready.append(Ready(None, None, Entrant(name, convert), outcome))

    def _conclude(self, ready: Ready, again: Reference) -> Outcome:
        proof = self._again(ready, again)
        if isinstance(proof, str):
            return replace(Outcome(ready.outcome.kernel, ready.outcome.backend, "wrong"), reason=proof)
        slices = np.array(ready.entrant.slices)
        low, middle, high = np.quantile(slices, (0.25, 0.5, 0.75))
        return replace(
            ready.outcome,
            reason=ready.entrant.note,
            error=max(ready.outcome.error or 0.0, proof.error),
            rounds=len(slices),
            iterations=ready.entrant.iterations,
            seconds_median=float(middle),
            seconds_min=float(slices.min()),
            seconds_q25=float(low),
            seconds_q75=float(high),
        )

    def _again(self, ready: Ready, again: Reference) -> Proof | str:
        if ready.kernel is None or ready.compute is None:
            return Proof(0.0, 0.0)
        try:
            return prove(ready.kernel, ready.compute, self.case, self.fresh, again)
        except Exception as fault:  # whatever it is: proven before, not after
            return f"after timing, on fresh inputs: {type(fault).__name__}: {fault}".splitlines()[0]


def control() -> Callable[[], np.float64]:
    """A small fixed computation that no change of gradkernels touches: the yardstick between files."""
    numbers = np.arange(1000.0)

    def compute() -> np.float64:
        return (numbers * numbers).sum()

    if compute() != 332833500.0:
        raise ArithmeticError("numpy does not sum the squares of 0 to 999 to 332833500; nothing it says can be trusted")
    return compute


def _yardsticks() -> list[Ready]:
    """The control, and the canary: the very same call under another name, so that any difference is the harness's."""
    compute = control()
    proven = [Outcome(name, "numpy", "ok", error=0.0, tolerance=0.0) for name in YARDSTICKS]
    return [Ready(None, None, Entrant(outcome.kernel, compute), outcome) for outcome in proven]


def libraries_of(kernels: Sequence[Kernel]) -> list[str]:
    """Names of the libraries that `kernels` compute with, in their order."""
    names = {kernel.backend.name for kernel in kernels}
    return [name for name in BACKENDS if name in names]
