"""Which rows of two results files are measurements of the same thing, and what they are divided by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gradkernels.bench.stats.estimates import PassId
from gradkernels.key import CONTROL, Key, matching, split_patterns
from gradkernels.names import unknown
from gradkernels.record import CASE, Record, Status, read

KEY = ("machine", *CASE, "kernel")
MEANS = ("machine", "dtype", "layout", "device", "threads")
"""What a comparison may be forced across: the same work by other means."""

# Worst first, but one timed and proven pass outweighs passes that were cut short.
_RANK = (Status.wrong, Status.failed, Status.ok, Status.timeout, Status.unsupported)
_SHOWN = 4

Rows = dict[PassId, Record]


@dataclass(frozen=True)
class Pair:
    """The rows of one kernel and case in both files, by pass; a side may be empty."""

    before: Mapping[PassId, Record]
    after: Mapping[PassId, Record]

    @property
    def sample(self) -> Record:
        """A row that tells the kernel and the case."""
        return next(iter((self.after or self.before).values()))


class Pairing(NamedTuple):
    """What two files have in common.

    Attributes:
        pairs: Every kernel and case of either file, in order of case and kernel.
        ignored: Coordinates that differ and were ignored because the comparison was forced.
        nothing: Why no row of one has a counterpart in the other; empty if one has.
    """

    pairs: list[Pair]
    ignored: tuple[str, ...]
    nothing: str


def pooled(files: Sequence[Path]) -> tuple[list[Record], str]:
    """Read the rows of several files as the passes of one side, and return what to call them as well."""
    # A file's name may hold bytes that are no text, and must still be printed.
    name = " + ".join(map(str, files)).encode(errors="backslashreplace").decode()
    return [record for file in files for record in read(file)], name


def status(rows: Mapping[PassId, Record]) -> str:
    """Return what several passes come to: wrong or failed if any is, else ok if any is; empty without passes."""
    return min((record.measurement.status for record in rows.values()), key=_RANK.index, default="")


def reason(rows: Mapping[PassId, Record]) -> str:
    """Return why the status is not ok, as the first row with that status gives it."""
    worst = status(rows)
    return next((record.measurement.reason for record in rows.values() if record.measurement.status == worst), "")


def select(
    sides: Sequence[Sequence[Record]], kernels: Sequence[str] = (), quantity: str | None = None
) -> list[list[Record]]:
    """Return the rows of each file whose kernel matches one of the globs, and of one quantity; the yardsticks stay.

    Args:
        sides: The rows of each file.
        kernels: Globs of kernels, see `Key.matches`; every kernel if empty.
        quantity: Name of a quantity; every one if None.

    Raises:
        ValueError: A name matches nothing in any file; says what there is.
    """
    keys = [record.kernel for side in sides for record in side if not Key.parse(record.kernel).is_yardstick]
    wanted = set(matching(split_patterns(kernels), keys))
    quantities = dict.fromkeys(record.case.quantity for side in sides for record in side)
    if quantity is not None and quantity not in quantities:
        raise ValueError(unknown("quantity", quantity, quantities))
    wanted |= {record.kernel for side in sides for record in side} - set(keys)
    return [
        [record for record in side if record.kernel in wanted and quantity in (None, record.case.quantity)]
        for side in sides
    ]


def pair(before: Sequence[Record], after: Sequence[Record], force: bool, names: tuple[str, str]) -> Pairing:
    """Pair the rows of two files by machine, case and kernel, and never by their position.

    Args:
        before: Rows of the first file.
        after: Rows of the second.
        force: Whether files that differ in machine, dtype, layout, device or threads only are paired all the same.
        names: What to call the two in messages.

    Raises:
        ValueError: The files differ in machine, dtype, layout, device or threads only, and the comparison is not
            forced; or a file holds a measurement twice.
    """
    sides = [[record for record in records if not Key.parse(record.kernel).is_yardstick] for records in (before, after)]
    apart = tuple(name for name in KEY if _values(sides[0], name).isdisjoint(_values(sides[1], name)))
    by_means = set(apart) <= set(MEANS)
    if apart and by_means and not force:
        raise ValueError(
            f"{names[0]} and {names[1]} differ in {_differences(apart, sides)}; measure both alike, or force the "
            "comparison"
        )
    ignored = apart if by_means else ()
    key = [name for name in KEY if name not in ignored]
    left, right = _group(before, key, names[0]), _group(after, key, names[1])
    keys = sorted(one for one in left.keys() | right.keys() if not Key.parse(one[-1]).is_yardstick)
    common = any(one in left and one in right for one in keys)
    pairs = [Pair(left.get(one, {}), right.get(one, {})) for one in keys]
    return Pairing(pairs, ignored, "" if common else _nothing(apart, sides, names))


def _nothing(apart: Sequence[str], sides: Sequence[Sequence[Record]], names: Sequence[str]) -> str:
    """Return why two files have nothing in common."""
    if empty := [name for name, records in zip(names, sides, strict=True) if not records]:
        found = f"{' and '.join(empty)} has no row of a kernel"
        return f"{found}; `gradkernels run` writes them, --kernel and --quantity leave some out"
    if apart:
        return f"no row of one file has a counterpart in the other: they differ in {_differences(apart, sides)}"
    return f"no row of {names[0]} has the machine, case and kernel of a row of {names[1]}"


def _values(records: Iterable[Record], name: str) -> set[Any]:
    return {_part(record, name) for record in records}


def _part(record: Record, name: str) -> Any:
    return getattr(record.case if name in CASE else record, name)


def _differences(apart: Sequence[str], sides: Sequence[Sequence[Record]]) -> str:
    return ", ".join(f"{name} ({_few(sides[0], name)} against {_few(sides[1], name)})" for name in apart)


def _few(records: Sequence[Record], name: str) -> str:
    values = sorted(_values(records, name))
    return " ".join(map(str, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")


def _group(records: Sequence[Record], key: Sequence[str], name: str) -> dict[tuple[Any, ...], Rows]:
    groups: dict[tuple[Any, ...], Rows] = {}
    for record in records:
        rows = groups.setdefault(tuple(_part(record, part) for part in key), {})
        if (one := (record.run, record.pass_)) in rows:
            case = record.case.described("=")
            raise ValueError(
                f"{name} holds kernel {record.kernel} of {case} twice for run {record.run}, "
                f"pass {record.pass_}; keep one of the two rows"
            )
        rows[one] = record
    return groups


def control_seconds(records: Iterable[Record], kernel: str = CONTROL) -> dict[tuple[Any, ...], float]:
    """Return the seconds per call of the control, or of the canary, by run, pass and case."""
    return {
        (record.run, record.pass_, record.case): record.measurement.seconds_median
        for record in records
        if record.kernel == kernel and record.measurement.seconds_median is not None
    }


def log_seconds(rows: Mapping[PassId, Record], controls: Mapping[tuple[Any, ...], float] | None) -> dict[PassId, float]:
    """Log seconds per call of the passes that are ok; over those of the control if its times are given."""
    return {
        one: math.log(record.measurement.seconds_median) - (math.log(controls[*one, record.case]) if controls else 0.0)
        for one, record in rows.items()
        if record.measurement.seconds_median is not None
    }


def has_control(rows: Mapping[PassId, Record], controls: Mapping[tuple[Any, ...], float]) -> bool:
    """Return whether the control was timed beside every pass."""
    return all(
        (*one, record.case) in controls for one, record in rows.items() if record.measurement.seconds_median is not None
    )
