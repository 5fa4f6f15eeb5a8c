"""Wisdom, in FFTW's sense: what was measured, made small enough to choose a kernel by.

Records become a table per problem, quantity, dtype, device, threads, layout, number of features and machine,
with each kernel's cost at the sizes measured. Between those sizes times are interpolated in log n; outside they
are taken as constant below and proportional to n above.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from gradkernels.case import Case
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.key import Key
from gradkernels.names import family_of
from gradkernels.record import Record, Status, read

WISDOM_SCHEMA = 1
COORDINATES = ("problem", "quantity", "dtype", "device", "threads", "layout", "features")
"""What a file of wisdom says of the case of an entry, in order."""

ENVIRONMENT = "GRADKERNELS_WISDOM"


class MeasuredPoint(NamedTuple):
    """One kernel at one size: seconds per call, seconds of build and first call, peak bytes if measured."""

    n: int
    seconds: float
    first: float
    bytes: int | None


@dataclass(frozen=True)
class WisdomEntry:
    """What is known for one combination of everything but the size.

    Attributes:
        machine: Where it was measured.
        case: What was computed, at all sizes; the problem without its data set.
        started: When the latest run behind it started.
        curves: Points in ascending n by kernel key, and by `convert.` and a library's name.
    """

    machine: str
    case: Coordinates
    started: str
    curves: Mapping[str, tuple[MeasuredPoint, ...]]

    def answers(self, case: Case) -> bool:
        """Return whether it is about this kind of problem, quantity, dtype and device."""
        own = self.case
        # Options, as in `huber(delta=2.0)`, change the numbers, hardly ever the order of the kernels.
        asked = (family_of(case.problem.name), case.quantity.name, case.dtype, case.device)
        return asked == (family_of(own.problem), own.quantity, own.dtype, own.device)

    def distance(self, case: Case, machine: str | None) -> tuple[bool, bool, float, bool]:
        """Return how far it is from `case`: another machine, other options, then threads and features, then layout."""
        own = self.case
        steps = abs(math.log(own.threads / case.threads)) + abs(math.log(own.features / case.features))
        elsewhere = machine is not None and self.machine != machine
        return (elsewhere, own.problem != case.problem.name, steps, own.layout != case.layout)


Wisdom = tuple[WisdomEntry, ...]


def seconds_at(points: Iterable[MeasuredPoint], n: int) -> float:
    """Interpolate seconds per call at size n, in log n and log seconds."""
    points = list(points)
    if n <= points[0].n:
        return points[0].seconds
    for low, high in pairwise(points):
        if n <= high.n:
            share = math.log(n / low.n) / math.log(high.n / low.n)
            return math.exp((1 - share) * math.log(low.seconds) + share * math.log(high.seconds))
    return points[-1].seconds * n / points[-1].n


def bytes_at(points: Iterable[MeasuredPoint], n: int) -> float | None:
    """Estimate peak bytes at size n, proportional to n from the nearest larger size measured; None if unknown."""
    known = [(point.n, point.bytes) for point in points if point.bytes is not None]
    if not known:
        return None
    size, peak = next((pair for pair in known if pair[0] >= n), known[-1])
    return peak * n / size


def learn(records: Iterable[Record]) -> Wisdom:
    """Make the table that `records` support: rows with status `ok` only, medians over passes."""
    proven = (row for row in records if row.measurement.status == Status.ok)
    rows = sorted((row for row in proven if not Key.parse(row.kernel).is_yardstick), key=_coordinates)
    return tuple(_entry(key, list(group)) for key, group in groupby(rows, key=_coordinates))


def _coordinates(row: Record) -> tuple[Any, ...]:
    problem = row.case.problem.partition("/")[0]
    return (row.machine, *(getattr(replace(row.case, problem=problem), name) for name in COORDINATES))


def _entry(key: tuple[Any, ...], rows: list[Record]) -> WisdomEntry:
    curves: dict[str, tuple[MeasuredPoint, ...]] = {}
    for kernel in sorted({row.kernel for row in rows}):
        of_kernel = [row for row in rows if row.kernel == kernel]
        sizes = sorted({row.case.n for row in of_kernel})
        curves[kernel] = tuple(_point(n, [row for row in of_kernel if row.case.n == n]) for n in sizes)
    machine, *coordinates = key
    case = Coordinates(n=ALL_SIZES, **dict(zip(COORDINATES, coordinates, strict=True)))
    return WisdomEntry(machine, case, max(row.started for row in rows), curves)


def _point(n: int, rows: list[Record]) -> MeasuredPoint:
    peaks = [row.measurement.peak_bytes for row in rows if row.measurement.peak_bytes is not None]
    return MeasuredPoint(
        n,
        _rounded(median(row.measurement.seconds_median for row in rows if row.measurement.seconds_median)),
        _rounded(median(row.measurement.seconds_first or 0.0 for row in rows)),
        max(peaks) if peaks else None,
    )


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.4g}")


def merge(new: Wisdom, old: Wisdom) -> Wisdom:
    """Replace every entry of `old` that `new` measured again."""
    return tuple({(entry.machine, entry.case): entry for entry in (*old, *new)}.values())


def dumps(table: Wisdom) -> str:
    """Write the table as JSON text, one kernel's curve per line so that changes can be read."""
    entries = []
    for entry in table:
        case = {name: getattr(entry.case, name) for name in COORDINATES}
        facts = {"machine": entry.machine, **case, "started": entry.started}
        curves = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(points)}" for name, points in entry.curves.items())
        entries.append(f'{json.dumps(facts)[:-1]}, "curves": {{\n  {curves}}}}}')
    return f'{{"schema": {WISDOM_SCHEMA}, "entries": [\n' + ",\n".join(entries) + "\n]}\n"


def loads(text: str | bytes, source: str) -> Wisdom:
    """Read the table in JSON `text`; a ValueError that names `source` if it is not one."""
    try:
        document = json.loads(text)
        if document["schema"] != WISDOM_SCHEMA:
            raise ValueError(f"schema {document['schema']}, not {WISDOM_SCHEMA}")
        return tuple(_revive(entry) for entry in document["entries"])
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise ValueError(f"{source} is not a wisdom file ({fault}); delete it and measure again") from None


def _revive(entry: dict[str, Any]) -> WisdomEntry:
    curves = {
        name: tuple(_whole(MeasuredPoint(*point)) for point in points) for name, points in entry["curves"].items()
    }
    if min(entry["threads"], entry["features"]) < 1:
        raise ValueError("threads and features must be at least 1")
    case = {name: entry.pop(name) for name in COORDINATES}
    return WisdomEntry(**{**entry, "case": Coordinates(n=ALL_SIZES, **case), "curves": curves})


def _whole(point: MeasuredPoint) -> MeasuredPoint:
    if not (point.n >= 1 and 0 < point.seconds < math.inf and 0 <= point.first < math.inf):
        raise ValueError(f"{list(point)} is no size with its times")
    return point


def saved_path() -> Path | None:
    """Return where this machine's choice is kept: $GRADKERNELS_WISDOM, else where platformdirs has a user's caches."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path)
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError:
        return None
    return user_cache_path("gradkernels") / "wisdom.json"


def save(table: Wisdom) -> Path:
    """Make `table` this machine's choice, beside what it knew already; returns the file."""
    path = saved_path()
    if path is None:
        raise ValueError("saving wisdom needs platformdirs: pip install 'gradkernels[bench]'")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; have {ENVIRONMENT} name another")
    path.parent.mkdir(parents=True, exist_ok=True)
    saved.cache_clear()  # another process may have saved since
    scratch = path.with_suffix(f".{os.getpid()}")
    try:
        scratch.write_text(dumps(merge(table, saved())), encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    saved.cache_clear()
    return path


@lru_cache(maxsize=1)
def saved() -> Wisdom:
    """Read this machine's saved choice; empty if there is none, as in `/dev/null`."""
    path = saved_path()
    if path is None or not path.exists() or path.is_char_device():
        return ()
    return loads(path.read_bytes(), str(path))


def saved_if_readable() -> Wisdom:
    """Return this machine's saved choice; nothing, and a warning once, where it is of another version or cut short."""
    try:
        return saved()
    except (ValueError, OSError) as fault:
        pass_over("this machine's saved choice is", str(fault))
        return ()


@lru_cache(maxsize=256)
def pass_over(what: str, fault: str) -> None:
    """Say once that no choice is made by `what`, and why: a caller's function is computed all the same."""
    warnings.warn(f"{what} passed over: {fault}", stacklevel=2)


@lru_cache(maxsize=1)
def shipped() -> Wisdom:
    """Read the table that comes with the package, a hint measured on another machine."""
    return loads((files("gradkernels") / "wisdom.json").read_text(encoding="utf-8"), "the shipped table")


def measured(path: str | os.PathLike[str]) -> Wisdom:
    """Make the table that a results file supports; it is read again only when the file changes."""
    state = os.stat(path)
    return _measured(os.fspath(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _measured(path: str, modified: int, size: int) -> Wisdom:
    return learn(read(path))
