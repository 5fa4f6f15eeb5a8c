"""`gk.race_functions`: the timing that holds, for any functions; equality is proven first, as ever."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from gradkernels.bench.api.alike import close
from gradkernels.bench.api.function_worker import Agree, FunctionRace, refused, without_first
from gradkernels.bench.api.plans import RunOptions, require_options
from gradkernels.bench.api.results import PathName, Results
from gradkernels.bench.api.run import new_file, stopped_softly
from gradkernels.bench.cli import parse
from gradkernels.bench.isolation.errors import WorkerDied
from gradkernels.bench.isolation.fresh_process import call_in_fresh_process
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes
from gradkernels.bench.race.progress import TellText, text_shown
from gradkernels.bench.results.functions import function_case
from gradkernels.bench.results.metadata import run_facts
from gradkernels.bench.run.own_code import write_pickled
from gradkernels.names import pick
from gradkernels.record import Measurement, Record

FEWEST_RACE_PASSES = 2
"""Passes that are measured whatever the budget: one gives no interval."""

RACE_OPTIONS = ("passes", "threads", "timeout", "max_bytes")
"""Those of `gk.run` that mean something for any functions."""

TIMED_SHARE = 0.5
"""Part of a pass in which functions are timed; starting the process, proofs and warming up take the rest."""


def race_functions(
    functions: Mapping[str, Callable[..., Any]],
    make: Callable[[int], Any],
    *,
    sizes: str | Iterable[int] = (1000,),
    agree: Agree | None = None,
    name: str = "functions",
    budget: float = 30.0,
    out: PathName | None = None,
    **options: Unpack[RunOptions],
) -> Results:
    """Time any functions in turns, in fresh processes, as `function.NAME.value`; not those that give something else.

    Args:
        functions: By name; the others are held against the first.
        make: `make(n)`, a tuple of arguments; every function gets copies of the same.
        sizes: What `make` is called with; also `10:1e6`.
        agree: `agree(result, that of the first)`; None for about the same numbers.
        name: Of the comparison: `function:NAME` is the problem in the results.
        budget: Seconds for everything; two passes are measured whatever they take.
        out: A new results file; without it the results are in memory alone.
        options: `passes`, `threads`, `timeout` and `max_bytes`, as of `gk.run`.

    Raises:
        ValueError: A name or size cannot be one, or the functions cannot be sent to another process.
    """
    chosen, named = _chosen(options, budget), _named(functions)
    path = None if out is None else new_file(Path(out))
    points = parse.sizes(sizes if isinstance(sizes, str) else ",".join(map(str, sizes)))
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as folder:
        race = FunctionRace(named, make, close if agree is None else agree)
        source = write_pickled(race, Path(folder, "functions"), "the functions")
        limits = ProcessLimits(chosen["timeout"], chosen["max_bytes"] or most_bytes())
        seconds = TIMED_SHARE * budget / chosen["passes"] / len(points)
        runs = FunctionPasses(source, tuple(named), points, seconds, chosen["threads"], limits)
        results = Results(tuple(_measured(runs, name, chosen["passes"], time.monotonic() + budget)))
    if path is not None:
        results.write(path)
    return results


@dataclass
class FunctionPasses:
    """Passes over functions, each in a process of its own; what kills one is left out from then on.

    Attributes:
        source: Path of the pickled functions.
        names: Of the functions.
        sizes: To measure at.
        seconds: For the timing at one size.
        threads: That a function may use.
        limits: Of a process.
        lost: Why functions are left out.
    """

    source: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    seconds: float
    threads: int
    limits: ProcessLimits
    lost: dict[str, str] = field(default_factory=dict)

    def measure(self) -> list[tuple[int, Measurement]]:
        """Do one pass; return measurements by size."""
        first = self.names[0]
        if first in self.lost:
            return [(n, one) for n in self.sizes for one in without_first(first, self.lost[first], self.names)]
        try:
            found = self._in_process([name for name in self.names if name not in self.lost], self.seconds)
        except WorkerDied as death:
            if not self._find_lost():
                return [(n, refused(name, death.reason)) for n in self.sizes for name in self.names]
            return self.measure()
        return found + [(n, refused(name, why)) for n in self.sizes for name, why in self.lost.items()]

    def _find_lost(self) -> bool:
        """Find out which functions kill their process, each in one of its own; return whether any did.

        The first comes first: the others are not called without it.
        """
        before = len(self.lost)
        for name in [name for name in self.names if name not in self.lost]:
            if self.names[0] in self.lost:
                break
            try:
                self._in_process([name], 0.0)
            except WorkerDied as death:
                self.lost[name] = death.reason
        return len(self.lost) > before

    def _in_process(self, names: Sequence[str], seconds: float) -> list[tuple[int, Measurement]]:
        arguments = {"source": self.source, "names": [*names], "sizes": [*self.sizes], "seconds": seconds}
        where = "gradkernels.bench.api.function_worker:measured_columns"
        rows = call_in_fresh_process(where, arguments, self.threads, None, self.limits)
        return [(row.pop("n"), Measurement(**row)) for row in rows]


def _chosen(given: RunOptions, budget: float) -> RunOptions:
    for option in given:
        pick(dict.fromkeys(RACE_OPTIONS), option, "option of race_functions")
    return require_options(given, budget)


def _measured(runs: FunctionPasses, name: str, passes: int, until: float) -> list[Record]:
    """Return the records of all passes, or of those until Ctrl-C."""
    records: list[Record] = []
    with stopped_softly(records), text_shown() as tell:
        records.extend(_records(runs, name, passes, until, tell))
    return records


def _records(runs: FunctionPasses, name: str, passes: int, until: float, tell: TellText) -> Iterable[Record]:
    """Measure pass after pass, as long as the time lasts."""
    facts = run_facts()
    for pass_ in range(1, passes + 1):
        if pass_ > FEWEST_RACE_PASSES and time.monotonic() > until:
            return
        tell(f"pass {pass_} of {passes}")
        for n, measurement in runs.measure():
            case = function_case(name, n, runs.threads)
            yield Record(**facts, case=case, parameters=0, seed=0, pass_=pass_, measurement=measurement)


def _named(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    if not functions:
        raise ValueError("functions is empty; give functions by name, first the one to hold the others against")
    for name, function in functions.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
            raise ValueError(f"{name!r} cannot be the name of a function here; use letters, digits and _")
        if not callable(function):
            raise ValueError(f"{name} is a {type(function).__name__}; it must be a function")
    return dict(functions)
