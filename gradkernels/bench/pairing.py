"""Which rows of two results files are measurements of the same thing, and what they are divided by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gradkernels.bench.statistics import Pass
from gradkernels.names import unknown
from gradkernels.record import CASE, Record
from gradkernels.wisdom import CONTROL

KEY = ("machine", *CASE, "kernel")
MEANS = ("machine", "dtype", "layout", "device", "threads")
"""What a comparison may be forced across: the same work by other means."""

# Worst first, but one timed and proven pass outweighs passes that were cut short.
_RANK = ("wrong", "failed", "ok", "timeout", "unsupported")
_SHOWN = 4

Rows = dict[Pass, Record]


@dataclass(frozen=True)
class Pair:
    """The rows of one kernel and case in both files, by pass; a side may be empty."""

    before: Mapping[Pass, Record]
    after: Mapping[Pass, Record]

    @property
    def sample(self) -> Record:
        """A row that tells the kernel and the case."""
        return next(iter((self.after or self.before).values()))


def status(rows: Mapping[Pass, Record]) -> str:
    """What several passes come to: wrong or failed if any is, else ok if any is; empty without passes."""
    return min((record.status for record in rows.values()), key=_RANK.index, default="")


def reason(rows: Mapping[Pass, Record]) -> str:
    """Why the status is not ok, as the first row with that status gives it."""
    worst = status(rows)
    return next((record.reason for record in rows.values() if record.status == worst), "")


def select(
    sides: Sequence[Sequence[Record]], kernels: Sequence[str] = (), quantity: str | None = None
) -> list[list[Record]]:
    """The rows of each file whose kernel matches one of the globs, and of one quantity; control rows stay.

    Args:
        sides: The rows of each file.
        kernels: Keys, or keys without quantity, `@out` and `+`, with `*` and `?`; every kernel if empty.
        quantity: Name of a quantity; every one if None.

    Raises:
        ValueError: A name matches nothing in any file; says what there is.
    """
    keys = dict.fromkeys(record.kernel for side in sides for record in side if record.kernel != CONTROL)
    for pattern in kernels:
        if not any(_matches(key, pattern) for key in keys):
            raise ValueError(unknown("kernel", pattern, keys))
    quantities = dict.fromkeys(record.quantity for side in sides for record in side)
    if quantity is not None and quantity not in quantities:
        raise ValueError(unknown("quantity", quantity, quantities))
    return [[record for record in side if _wanted(record, kernels, quantity)] for side in sides]


def _wanted(record: Record, kernels: Sequence[str], quantity: str | None) -> bool:
    named = not kernels or record.kernel == CONTROL or any(_matches(record.kernel, pattern) for pattern in kernels)
    return named and quantity in (None, record.quantity)


def _matches(key: str, pattern: str) -> bool:
    plain = key.removesuffix("@out")
    names = {key, plain, plain.rpartition(".")[0]}
    # Brackets are part of a key (`torch.vmap[chunk=512].norms`), so they stand for themselves.
    literal = pattern.replace("[", "[[]")
    return any(fnmatchcase(form, literal) for name in names for form in (name, name.replace("+", "")))


def pair(
    before: Sequence[Record], after: Sequence[Record], force: bool, names: tuple[str, str]
) -> tuple[list[Pair], tuple[str, ...]]:
    """Pair the rows of two files by machine, case and kernel, and never by their position.

    Returns:
        The pairs in order of case and kernel, and the coordinates that had to be ignored (with `force`).

    Raises:
        ValueError: No row of one has a counterpart in the other, or a file holds a measurement twice.
    """
    ignored = _apart(before, after, force, names)
    key = [name for name in KEY if name not in ignored]
    left, right = _group(before, key, names[0]), _group(after, key, names[1])
    keys = sorted(one for one in left.keys() | right.keys() if one[-1] != CONTROL)
    if not any(one in left and one in right for one in keys):
        raise ValueError(f"no row of {names[0]} has the machine, case and kernel of a row of {names[1]}")
    return [Pair(left.get(one, {}), right.get(one, {})) for one in keys], ignored


def _apart(before: Sequence[Record], after: Sequence[Record], force: bool, names: tuple[str, str]) -> tuple[str, ...]:
    """The coordinates in which no row of one file equals a row of the other; a ValueError unless forced."""
    sides = [[record for record in records if record.kernel != CONTROL] for records in (before, after)]
    for name, records in zip(names, sides, strict=True):
        if not records:
            raise ValueError(
                f"{name} has no row to compare; `gradkernels run` writes them, --kernel and --quantity leave some out"
            )
    apart = tuple(name for name in KEY if _values(sides[0], name).isdisjoint(_values(sides[1], name)))
    if apart and not (force and set(apart) <= set(MEANS)):
        raise ValueError(_refusal(apart, sides, names))
    return apart


def _values(records: Iterable[Record], name: str) -> set[Any]:
    return {getattr(record, name) for record in records}


def _refusal(apart: Sequence[str], sides: Sequence[Sequence[Record]], names: tuple[str, str]) -> str:
    differ = ", ".join(f"{name} ({_few(sides[0], name)} against {_few(sides[1], name)})" for name in apart)
    advice = "measure both alike" + (", or force the comparison" if set(apart) <= set(MEANS) else "")
    return f"no row of {names[0]} can be compared with one of {names[1]}: they differ in {differ}; {advice}"


def _few(records: Sequence[Record], name: str) -> str:
    values = sorted(_values(records, name))
    return " ".join(map(str, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")


def _group(records: Sequence[Record], key: Sequence[str], name: str) -> dict[tuple[Any, ...], Rows]:
    groups: dict[tuple[Any, ...], Rows] = {}
    for record in records:
        rows = groups.setdefault(tuple(getattr(record, part) for part in key), {})
        if (one := (record.run, record.pass_)) in rows:
            raise ValueError(
                f"{name} holds kernel {record.kernel} of {describe(record)} twice for run {record.run}, "
                f"pass {record.pass_}; keep one of the two rows"
            )
        rows[one] = record
    return groups


def describe(record: Record) -> str:
    """The case of a row in words: `problem=linear, quantity=norms, n=10, ...`."""
    return ", ".join(f"{name}={value}" for name, value in zip(CASE, record.case, strict=True))


def control_seconds(records: Iterable[Record]) -> dict[tuple[Any, ...], float]:
    """Seconds per call of the control by run, pass and case."""
    controls = (record for record in records if record.kernel == CONTROL)
    return {(record.run, record.pass_, record.case): record.seconds_median or math.nan for record in controls}


def log_seconds(rows: Mapping[Pass, Record], controls: Mapping[tuple[Any, ...], float] | None) -> dict[Pass, float]:
    """Log seconds per call of the passes that are ok; over those of the control if its times are given."""
    return {
        one: math.log(record.seconds_median / (controls[*one, record.case] if controls else 1.0))
        for one, record in rows.items()
        if record.seconds_median is not None
    }


def has_control(rows: Mapping[Pass, Record], controls: Mapping[tuple[Any, ...], float]) -> bool:
    """Whether the control was timed beside every pass."""
    return all((*one, record.case) in controls for one, record in rows.items() if record.seconds_median is not None)
