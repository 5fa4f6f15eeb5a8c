"""Whole lines of a results file as columns, many at once, by pyarrow.

What pyarrow reads otherwise than the rules of `gradkernels.record.reading` say, or what breaks them, is not judged
here: `columns_of_csv` returns None, and whoever called it reads the lines one by one, which names the fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from gradkernels.bench.stats.estimates import Floats, Ints
from gradkernels.record import COLUMNS, DERIVED, KINDS, TIMES, Status, derived
from gradkernels.record.reading import ASCENDING, Malformed, value_of

_FLOATS = tuple(name for name in COLUMNS if KINDS[name].startswith("float"))
_FLOAT, _CODES = np.dtype(np.float64), np.dtype(np.int32)
_QUOTE, _COMMA, _LF, _CR = b'",\n\r'
_STARTS = np.isin(np.arange(256), [_COMMA, _LF])
_ENDS = np.isin(np.arange(256), [_COMMA, _LF, _CR])

SharedColumn = tuple[list[Any], Ints]
"""The values of a column, each once, and for each row the position of its own."""

CsvColumns = dict[str, Any]
"""Columns by name: numbers with a fraction as they are, every other as a SharedColumn."""


def arrow() -> ModuleType | None:
    """Return pyarrow's reader of CSV, if it is installed."""
    try:
        import pyarrow.csv
    except ModuleNotFoundError:
        return None
    module: ModuleType = pyarrow.csv
    return module


def columns_of_csv(csv: ModuleType, lines: bytes, header: Sequence[str]) -> CsvColumns | None:
    """Return the columns of whole lines.

    Args:
        csv: What `arrow` returned.
        lines: Without a header, of which the last ends with a line break.
        header: The names of the columns; those after COLUMNS are passed over.

    Returns:
        Numbers with a fraction as they are, NaN for none; everything else as values and positions. None where a
        reader of single lines must look.
    """
    if not is_plain(lines):
        return None
    known = COLUMNS[: len(header)]
    names = [*known, *(f"_{place}" for place in range(len(known), len(header)))]
    import pyarrow

    shared = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = {name: pyarrow.float64() if name in _FLOATS else shared for name in names}
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(lines),
            # Threads within a part cost more than they save: whole parts are read beside each other.
            csv.ReadOptions(column_names=names, use_threads=False),
            csv.ParseOptions(newlines_in_values=b'"' in lines),
            csv.ConvertOptions(column_types=types, null_values=[""]),
        )
    except pyarrow.ArrowInvalid:
        return None
    table = table.unify_dictionaries()
    try:
        return _plausible({name: _column(name, table.column(name).combine_chunks()) for name in known})
    except Malformed:
        return None


def _column(name: str, chunk: Any) -> SharedColumn | Floats:
    if name in _FLOATS:
        numbers, there = _entries(chunk, _FLOAT), _known(chunk)
        # Not a number and no number are one from here on; a column of the first is left to who reads single lines.
        if not np.isfinite(numbers[there]).all():
            raise Malformed(name)
        return np.where(there, numbers, np.nan)
    return [value_of(name, text, "") for text in chunk.dictionary.to_pylist()], _entries(chunk.indices, _CODES)


def _entries(chunk: Any, dtype: np.dtype[Any]) -> Any:
    """Return the numbers of an array of pyarrow's, as they are in memory: its own conversion would load pandas."""
    if not len(chunk):
        return np.zeros(0, dtype)
    return np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize)


def _known(chunk: Any) -> Any:
    """Return which of an array of pyarrow's there are, by its bitmap."""
    if not chunk.null_count:
        return np.ones(len(chunk), bool)
    bits = np.unpackbits(np.frombuffer(chunk.buffers()[0], np.uint8), bitorder="little")
    return bits[chunk.offset : chunk.offset + len(chunk)].view(bool)


def _plausible(columns: CsvColumns) -> CsvColumns | None:
    """Return the columns if each row keeps the rules of a record."""
    statuses, position = columns["status"]
    if not {*statuses} <= {*Status} or not _follows(columns):
        return None
    ok = np.array([status == Status.ok for status in statuses], bool)[position]
    times = [columns[name] for name in TIMES]
    limit = columns["limit_seconds"]
    timed = ok & ~np.isnan(columns["seconds_median"])
    proven = (columns["error"] >= 0) & (columns["error"] <= columns["tolerance"])
    positive = [np.isnan(time) | (time > 0) for time in (*times, limit)]
    untimed = np.logical_and.reduce([np.isnan(time) for time in times])
    sound = np.where(ok, timed & proven, untimed) & np.logical_and.reduce(positive) & _in_order(columns)
    return columns if sound.all() else None


def _follows(columns: CsvColumns) -> bool:
    """Tell whether the columns that follow from the kernel are, in each row, those of its kernel."""
    kernels, kernel = columns["kernel"]
    wanted = [derived(one) for one in kernels]
    for name in DERIVED.keys() & columns.keys():
        values, code = columns[name]
        places = {value: place for place, value in enumerate(values)}
        if (np.array([places.get(one[name]) for one in wanted])[kernel] != code).any():
            return False
    return True


def _in_order(columns: CsvColumns) -> Any:
    """Return for each row whether no time is above those that it is at most."""
    highest = np.zeros(len(columns["seconds_median"]))
    sound = np.ones(len(highest), bool)
    for name in ASCENDING:
        known = ~np.isnan(columns[name])
        sound &= ~known | (columns[name] >= highest)
        highest = np.where(known, columns[name], highest)
    return sound


def is_plain(lines: bytes) -> bool:
    """Tell whether quotes stand around whole cells only, and whether no line ends in CR alone."""
    text = np.frombuffer(lines, np.uint8)
    if b"\r" in lines:
        returns = np.flatnonzero(text == _CR)
        if not (text[returns + 1 - (returns + 1 == len(text))] == _LF).all():
            return False
    if b'"' not in lines:
        return True
    quotes = np.flatnonzero(text == _QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    again = np.zeros(len(opening), bool)  # a quote within a quoted cell is written twice
    again[1:] = opening[1:] == closing[:-1] + 1
    ended = np.ones(len(closing), bool)
    ended[:-1] = ~again[1:]
    starts = (opening == 0) | _STARTS[text[opening - 1]]
    ends = _ENDS[text[np.minimum(closing + 1, len(text) - 1)]]
    return bool((again | starts).all() and (~ended | ends).all())
