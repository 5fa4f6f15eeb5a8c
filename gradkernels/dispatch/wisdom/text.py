"""The file of wisdom: JSON, one kernel's curve per line so that changes can be read.

Of schema 1, whose entries had one date each, everything is read too. An entry that is not as it has to be is passed
over, and written again as it was: another version may know what it means.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch.wisdom.entry import COORDINATES, MeasuredPoint, Origin, Wisdom, WisdomEntry, fault_of
from gradkernels.dispatch.wisdom.learning import merged_tables

WISDOM_SCHEMA = 2


class NewerSchema(ValueError):
    """A file that a newer version wrote."""


class EntryFault(NamedTuple):
    """An entry that cannot be used: which one it is, and what is wrong with it."""

    entry: str
    reason: str


@dataclass(frozen=True)
class WisdomText:
    """What a file of wisdom holds.

    Attributes:
        entries: Those that are as an entry has to be.
        faults: What is wrong with the others.
        unread: The others themselves, as JSON.
    """

    entries: Wisdom = ()
    faults: tuple[EntryFault, ...] = ()
    unread: tuple[str, ...] = ()


def dumps(table: Wisdom, unread: Iterable[str] = ()) -> str:
    """Write the table as JSON text, and after it the entries of a file that could not be read."""
    entries = [*map(_written, table), *unread]
    return f'{{"schema": {WISDOM_SCHEMA}, "entries": [\n' + ",\n".join(entries) + "\n]}\n"


def _written(entry: WisdomEntry) -> str:
    case = {name: getattr(entry.case, name) for name in COORDINATES}
    origins = list(dict.fromkeys(point.origin for points in entry.curves.values() for point in points))
    facts = {"machine": entry.machine, **case, "origins": origins}
    place = {origin: at for at, origin in enumerate(origins)}
    curves = {name: [(*point[:-1], place[point.origin]) for point in points] for name, points in entry.curves.items()}
    lines = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(points)}" for name, points in curves.items())
    return f'{json.dumps(facts)[:-1]}, "curves": {{\n  {lines}}}}}'


def loads(text: str | bytes, source: str) -> Wisdom:
    """Read the table in JSON `text`, all of it.

    Raises:
        ValueError: It is no such text, or one of its entries is not as it has to be; names `source` and the entry.
    """
    found = parsed_wisdom(text, source)
    if found.faults:
        raise ValueError(f"{source}, {': '.join(found.faults[0])}")
    return found.entries


def parsed_wisdom(text: str | bytes, file: str, source: str = "") -> WisdomText:
    """Read what can be read of JSON `text`.

    Args:
        text: What the file holds.
        file: Its name, for the message.
        source: What all points come from, whatever they say; empty for what each says.

    Raises:
        ValueError: It is no wisdom, or that of a newer version.
    """
    entries: list[WisdomEntry] = []
    faults, unread = [], []
    for at, one in enumerate(_raw_entries(text, file), 1):
        try:
            entries.append(_entry(one, source))
        except ValueError as fault:
            faults.append(EntryFault(f"entry {at}{_named(one)}", str(fault)))
            unread.append(json.dumps(one))
    return WisdomText(merged_tables(tuple(entries), ()), tuple(faults), tuple(unread))


def _raw_entries(text: str | bytes, file: str) -> list[Any]:
    try:
        document = json.loads(text)
        schema = document["schema"]
        if type(schema) is int and schema > WISDOM_SCHEMA:
            raise NewerSchema(
                f"{file} is wisdom of schema {schema}, which a newer gradkernels wrote; this one reads schemas up to "
                f"{WISDOM_SCHEMA}: update it, or have GRADKERNELS_WISDOM name another file"
            )
        if others := document.keys() - {"schema", "entries"}:
            raise ValueError(f"unknown field {min(others)!r}")
        entries = document["entries"]
        if not isinstance(entries, list) or type(schema) is not int or schema < 1:
            raise ValueError("no schema with a list of entries")
    except NewerSchema:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as fault:
        raise ValueError(f"{file} is not a wisdom file ({fault}); delete it and measure again") from None
    return entries


def _named(raw: Any) -> str:
    """Return what an entry says that it is about, as far as it says so."""
    if not isinstance(raw, dict):
        return ""
    return f" ({reprlib.repr(raw.get('quantity'))} of {reprlib.repr(raw.get('problem'))})"


def _entry(raw: Any, source: str) -> WisdomEntry:
    """Read an entry.

    Raises:
        ValueError: It is not as it has to be.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"it is {reprlib.repr(raw)}, no object")
    dated = "started" in raw
    known = ("machine", *COORDINATES, "started" if dated else "origins", "curves")
    if lacking := [name for name in known if name not in raw]:
        raise ValueError(f"there is no {lacking[0]!r}")
    if others := raw.keys() - {*known}:
        raise ValueError(f"unknown field {min(others)!r}")
    case = Coordinates(n=ALL_SIZES, **{name: raw[name] for name in COORDINATES})
    try:
        origins = [Origin(raw["started"])] if dated else [Origin(*one) for one in raw["origins"]]
        origins = [one._replace(source=source or one.source) for one in origins]
        curves = {kernel: _points(points, origins, not dated) for kernel, points in raw["curves"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise ValueError(f"its points cannot be read: {fault}") from None
    entry = WisdomEntry(raw["machine"], case, {kernel: points for kernel, points in curves.items() if points})
    if broken := fault_of(entry):
        raise ValueError(broken)
    return entry


def _points(raw: Iterable[Any], origins: list[Origin], indexed: bool) -> tuple[MeasuredPoint, ...]:
    """Return the points of a curve.

    Args:
        raw: As the file has them.
        origins: Of the entry.
        indexed: Whether each says at its end which origin is its own.
    """
    if not indexed:
        return tuple(MeasuredPoint(n, seconds, first, peak, origins[0]) for n, seconds, first, peak in raw)
    own = dict(enumerate(origins))
    return tuple(MeasuredPoint(n, seconds, first, peak, own[at]) for n, seconds, first, peak, at in raw)
