"""What an entry of wisdom is, said once: what is learned, read and written has to be so."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from gradkernels.case import Case
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.names import family_of

COORDINATES = ("problem", "quantity", "dtype", "device", "threads", "layout", "features")
"""What a file of wisdom says of the case of an entry, in order."""

MOST_SECONDS = 1e9
MOST = 2**63 - 1
"""Of samples, features, bytes: what no machine has more of, and arithmetic bears."""

LONGEST_TEXT = 500
_NUMBERS = (float, int)


class Origin(NamedTuple):
    """Where a point comes from.

    Attributes:
        started: When the latest run behind it started, an ISO date; empty if that is not known.
        source: `race`, the name of a results file, or `shipped`; empty if that is not known.
        passes: How many passes its times are the median of; None if that is not known.
    """

    started: str = ""
    source: str = ""
    passes: int | None = None


class MeasuredPoint(NamedTuple):
    """One kernel at one size.

    Attributes:
        n: Number of samples.
        seconds: Per call.
        first: Seconds of build and first call.
        bytes: Peak memory, if it was measured.
        origin: Where that is known from.
    """

    n: int
    seconds: float
    first: float
    bytes: int | None
    origin: Origin = Origin()


@dataclass(frozen=True)
class WisdomEntry:
    """What is known for one combination of everything but the size.

    Attributes:
        machine: Where it was measured.
        case: What was computed, at all sizes; the problem without its data set.
        curves: Points in ascending n by kernel key, and by `convert.` and a library's name.
    """

    machine: str
    case: Coordinates
    curves: Mapping[str, tuple[MeasuredPoint, ...]]

    @cached_property
    def competitors(self) -> tuple[str, ...]:
        """Keys of the kernels that a caller could have chosen."""
        return tuple(key for key in self.curves if Key.parse(key).competes)

    @property
    def started(self) -> str:
        """When the latest run behind it started; empty if that is not known."""
        origins = (point.origin.started for points in self.curves.values() for point in points)
        return max(origins, key=date_of, default="")

    @cached_property
    def kind(self) -> tuple[str, str, str, str]:
        """Kind of problem, quantity, dtype and device: an entry of another kind says nothing of a case."""
        return family_of(self.case.problem), self.case.quantity, self.case.dtype, self.case.device

    def distance(self, case: Case, machine: str | None) -> tuple[bool, bool, float, bool]:
        """Return how far it is from `case`: another machine, other options, then threads and features, then layout."""
        own = self.case
        steps = abs(math.log(own.threads / case.threads)) + abs(math.log(own.features / case.features))
        elsewhere = machine is not None and self.machine != machine
        return (elsewhere, own.problem != case.problem.name, steps, own.layout != case.layout)


Wisdom = tuple[WisdomEntry, ...]


def kind_of(case: Case) -> tuple[str, str, str, str]:
    """Return what an entry that answers for a case is about."""
    # Options, as in `huber(delta=2.0)`, change the numbers, hardly ever the order of the kernels.
    return family_of(case.problem.name), case.quantity.name, case.dtype, case.device


class FieldRule(NamedTuple):
    """What one field of an entry may be."""

    allowed: str
    holds: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def _is_name(value: Any) -> bool:
    return _is_text(value) and bool(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST  # True is no number here


def _is_count_if_known(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_bytes(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value <= MOST)


def _is_least_seconds(value: Any) -> bool:
    return type(value) in _NUMBERS and 0 <= value <= MOST_SECONDS


def _is_seconds(value: Any) -> bool:
    return type(value) in _NUMBERS and 0 < value <= MOST_SECONDS


def _is_started(value: Any) -> bool:
    return value == "" or (_is_text(value) and is_date(value))


_NAME = FieldRule(f"text of at most {LONGEST_TEXT} characters", _is_name)
_COUNT = FieldRule("a whole number from 1 to 2**63 - 1", _is_count)

ENTRY_RULES: dict[str, FieldRule] = dict.fromkeys(("machine", *COORDINATES), _NAME)
ENTRY_RULES |= dict.fromkeys(("threads", "features"), _COUNT)
"""The fields of an entry but its curves."""

POINT_RULES = {
    "n": _COUNT,
    "seconds": FieldRule(f"above 0 and at most {MOST_SECONDS:g}", _is_seconds),
    "first": FieldRule(f"from 0 to {MOST_SECONDS:g} seconds", _is_least_seconds),
    "bytes": FieldRule("null or a whole number from 0 on", _is_bytes),
}
ORIGIN_RULES = {
    "started": FieldRule("an ISO date, or empty", _is_started),
    "source": FieldRule(f"text of at most {LONGEST_TEXT} characters", _is_text),
    "passes": FieldRule("null or a whole number from 1 on", _is_count_if_known),
}


def fault_of(entry: WisdomEntry) -> str | None:
    """Return the sentence that says what is wrong with an entry; None if it is as an entry has to be."""
    return next(_faults(entry), None)


def _faults(entry: WisdomEntry) -> Iterator[str]:
    yield from _broken({"machine": entry.machine, **vars(entry.case)}, ENTRY_RULES)
    # Perhaps not hashable, and the same for many points.
    origins = {id(point.origin): point.origin for points in entry.curves.values() for point in points}
    for origin in origins.values():
        yield from _broken(origin._asdict(), ORIGIN_RULES)
    for kernel, points in entry.curves.items():
        if not _is_name(kernel):
            yield f"a kernel is {reprlib.repr(kernel)}; it must be {_NAME.allowed}"
        before = 0
        for point in points:
            n, seconds, first, peak, _ = point  # thousands of points are read before the first call
            if not (_is_count(n) and _is_seconds(seconds) and _is_least_seconds(first) and _is_bytes(peak)):
                yield f"of {kernel}, {next(_broken(point._asdict(), POINT_RULES))}"
            if n <= before:
                yield f"of {kernel}, the sizes are not ascending"
            before = n


def _broken(values: Mapping[str, Any], rules: Mapping[str, FieldRule]) -> Iterator[str]:
    for name, rule in rules.items():
        if not rule.holds(values[name]):
            yield f"{name} is {reprlib.repr(values[name])}; it must be {rule.allowed}"


def described(entry: WisdomEntry) -> str:
    """Say in a few words which entry it is."""
    own = entry.case
    return f"{own.quantity} of {own.problem} in {own.dtype} on {own.device}, features {own.features}"


def date_of(started: str) -> datetime:
    """Return the time that a date means, in UTC where it names no zone; the first of all for what is no date."""
    try:
        found = datetime.fromisoformat(started)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def is_date(text: str) -> bool:
    """Return whether a text is a date, with or without a time."""
    return date_of(text) > date_of("")


def as_text(given: str) -> str:
    """Return a text as an entry may hold it: printable and not too long."""
    return "".join(letter if letter.isprintable() else "?" for letter in given)[:LONGEST_TEXT]
