"""Whole lines as columns, and files as parts of whole lines: what each takes, and what it leaves to single lines."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from measured import cells, changed, record, refused

from gradkernels.bench.results import arrow_rows, parts
from gradkernels.bench.results.reader import GrowingTable
from gradkernels.bench.results.table import distinct, groups, tabulate
from gradkernels.record import COLUMNS, HEADER, KINDS, Malformed, Record, line
from gradkernels.record.reading import parse

pa = pytest.importorskip("pyarrow")

TIMES = {"seconds_min": 1.0, "seconds_q25": 2.0, "seconds_q75": 3.0, "seconds_first": 5.0}
TIMED = record(
    schema=3, seconds_median=2.5, rounds=3, iterations=4, peak_bytes=5, least_bytes=6, limit_seconds=1e-3, **TIMES
)
(UNTIMED,) = refused("failed", 1, schema=3, error=0.5, tolerance=0.25)
FIRST, SECOND, THIRD = (line(cells(changed(TIMED, pass_=number))).encode() for number in (1, 2, 3))
MARK = b"\xef\xbb\xbf"


SIZES = {"run": "i4", "case": "i4", "kernel": "i4", "reason": "i4", "status": "i1", "pass_": "i8", "block": "i8"}
"""What each row takes, beside four numbers: a table of all rows of large files is held in memory."""


def sizes(table):
    return {name: getattr(table, name).dtype.str[1:] for name in SIZES}


def columns(lines, header=COLUMNS):
    return arrow_rows.columns_of_csv(arrow_rows.arrow(), lines, header)


def one_row(lines):
    """The only row, as it is in columns; None for none."""
    found = columns(lines)
    if found is None:
        return None
    row = {}
    for name, column in found.items():
        (value,) = column.tolist() if isinstance(column, np.ndarray) else [column[0][code] for code in column[1]]
        row[name] = None if value != value else value
    return Record.of(row)


def singly(lines):
    """The same as it is read by itself; None where it is refused."""
    try:
        ((_, row),) = parse(Path("x.csv"), lines.decode(), COLUMNS)
    except Malformed:
        return None
    return row


def with_cells(row, **values):
    return line(values.get(name, cell) for name, cell in zip(COLUMNS, cells(row), strict=True)).encode()


def with_breaks(row, count):
    """The line of the row with so many line breaks for its reason, of which `line` would make spaces."""
    return line(cells(row)).encode().replace(b"it is failed", b'"' + b"\n" * count + b'"')


# Columns.


@pytest.mark.parametrize("name", [name for name in COLUMNS if KINDS[name].startswith(("int", "float"))])
def test_a_number_is_taken_or_refused_as_in_a_single_line(name):
    """A number that is none, or without end, is left to single lines, which take it where it is no time."""
    for row, text in product((TIMED, UNTIMED), ("", "0", "-1", "0.0", "-0.5", "3.5", "x")):
        lines = with_cells(row, **{name: text})
        assert one_row(lines) == singly(lines), text
    for text in ("nan", "inf"):
        assert columns(with_cells(UNTIMED, **{name: text})) is None


@pytest.mark.parametrize("name", [name for name in COLUMNS if KINDS[name].startswith(("str", "bool"))])
def test_a_text_is_taken_or_refused_as_in_a_single_line(name):
    for text in ("", "a,b", "é", "ok", "failed", "True", "NA", "null", "kernel"):
        lines = with_cells(UNTIMED, **{name: text})
        assert one_row(lines) == singly(lines), text


def test_times_are_taken_where_none_is_above_the_next():
    for one, two, three, four in product(("", "2.0", "3.0"), ("", "1.0", "2.0"), ("2.0", "2.5"), ("", "2.0", "2.5")):
        lines = with_cells(TIMED, seconds_min=one, seconds_q25=two, seconds_median=three, seconds_q75=four)
        assert one_row(lines) == singly(lines), (one, two, three, four)


def test_no_row_keeps_the_place_of_another():
    """What is known of one row, and the order of its times, is not that of the next."""
    lines = [FIRST, with_cells(UNTIMED), with_cells(TIMED, seconds_min="", seconds_q75="", **{"pass": 2})]
    found = columns(b"".join(lines))
    assert str(found["seconds_median"].tolist()) == "[2.5, nan, 2.5]"
    assert str(found["seconds_min"].tolist()) == "[1.0, nan, nan]"
    assert [found["pass"][0][code] for code in found["pass"][1]] == [1, 1, 2]
    assert columns(b"".join([*lines, with_cells(TIMED, seconds_min="2.25")])) is None


def test_a_role_that_is_another_kernel_s_is_left_to_single_lines():
    canary = with_cells(UNTIMED, kernel="canary", role="canary", way="canary")
    assert columns(canary + with_cells(UNTIMED)) is not None
    assert columns(canary + with_cells(UNTIMED, role="control")) is None


def test_rows_of_every_status_are_columns():
    statuses = ["wrong", "unsupported", "failed", "timeout"]
    found = columns(b"".join([FIRST, *(with_cells(UNTIMED, status=status) for status in statuses)]))
    assert [found["status"][0][code] for code in found["status"][1]] == ["ok", *statuses]


def test_blank_lines_are_columns_without_rows():
    found = columns(b"\n\r\n")
    assert found["seconds_median"].tolist() == []
    assert found["kernel"][1].tolist() == []
    table = GrowingTable(3)
    table.add(parts.Part(Path("x.csv"), b"\n\r\n", COLUMNS, 1, 0), found)
    assert len(table.table()) == 0
    assert sizes(table.table()) == SIZES


def test_lines_of_more_than_a_megabyte_with_breaks_in_quotes_are_columns():
    """By pyarrow they are read block by block, of which none may end within quotes."""
    first, second = (with_breaks(changed(UNTIMED, pass_=number), 500) for number in (1, 2))
    assert len(first) * 2000 > 2**20
    found = columns(first * 2000 + second * 2000)
    values, code = found["pass"]
    assert [values[place] for place in code] == [1] * 2000 + [2] * 2000
    assert found["reason"][0] == ["\n" * 500]
    assert np.isnan(found["seconds_median"]).tolist() == [True] * 4000


def test_columns_of_a_newer_version_are_passed_over_where_they_are_text():
    assert [*columns(FIRST[:-1] + b",1.5,new\n", [*COLUMNS, "more", "most"])] == [*COLUMNS]
    assert columns(FIRST[:-1] + b",\xff\n", [*COLUMNS, "more"]) is None
    assert columns(FIRST[:-1] + b",1\n") is None


def test_an_array_that_begins_within_another_s_memory_has_its_own_numbers():
    whole = pa.array([1.5, None, 2.5, None, None, 3.5, 4.5, 5.5, 6.5, None, 7.5])
    part = whole[2:]
    assert arrow_rows._entries(part, np.dtype(np.float64))[[0, 3, 8]].tolist() == [2.5, 3.5, 7.5]
    assert arrow_rows._known(part).tolist() == [True, False, False, True, True, True, True, False, True]
    assert arrow_rows._known(whole[5:9]).tolist() == [True] * 4


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (b"a,b\n", True),
        (b"a\r\nb\r\n", True),
        (b"a\rb\n", False),
        (b"a\r\nb\r", False),
        (b"a\r\rb\r\n", False),
        (b'"a"\n', True),
        (b'"a",b\n', True),
        (b'b,"a"\n', True),
        (b'b\n"a"\r\n', True),
        (b'b\n"a"', False),
        (b'"a","b"\n"c"\n', True),
        (b'"a ""b"" c","d"\n', True),
        (b'"","a"\n', True),
        (b'"a" "b"\n', False),
        (b'"a"b,"c"\n', False),
        (b'"c","a"b\n', False),
        (b'a"b","c"\n', False),
        (b'"c",a"b"\n', False),
        (b'"a"b""\n', False),
        (b'a,"b\n', False),
        (b'"a', False),
        (b'"a""\n', False),
    ],
)
def test_plain_is_a_text_with_quotes_around_whole_cells_and_usual_ends_of_lines(text, plain):
    assert arrow_rows.is_plain(text) is plain


# Parts.


@pytest.mark.parametrize(
    ("text", "quoted", "size"),
    [
        (b"a\nb\nc", 0, 4),
        (b"a\nb\n", 0, 4),
        (b"abc", 0, 0),
        (b'a\n"b\nc"\nd', 0, 8),
        (b'a\nb,"c\nd\n', 0, 2),
        (b'"a\nb\nc', 0, 0),
        (b'a\nb"\nc\nd', 1, 7),
        (b"a\nb\nc", 1, 0),
        (b'a\nb"\nc,"d\n', 1, 5),
        (b'a"\n"b"\n"c\n', 1, 7),
        (b'a""b"\nc', 1, 6),
    ],
)
def test_a_text_is_whole_to_its_last_line_break_outside_of_quotes(text, quoted, size):
    assert parts._whole(text, quoted) == size


QUOTED_HEADER = b'"' + HEADER.strip().encode().replace(b",", b'","') + b'"\n'


def test_a_text_is_cut_before_each_header_outside_of_quotes():
    header = HEADER.encode()
    for pieces in (
        [b"1,a\n", header + b"2,b\n3,c\n", QUOTED_HEADER, MARK + header + b"4,d\n"],
        [header, header + b"1,a\n", header],
        [b'"1",a\n', header],
        [b"s\nschem,\nschemata\n"],
        [b'1,"\n' + header + b'"\n2,""""\n', header],
        [b'1,"a","\n' + header + b'"\n', header],
        [b""],
    ):
        assert [*parts._at_headers(b"".join(pieces))] == pieces


@pytest.mark.parametrize(
    ("lines", "is_header"),
    [
        (b"schema,run", True),
        (b'"schema","run"', True),
        (MARK + b"schema,", True),
        (MARK + b'"schema",', True),
        (b"schema", False),
        (b"schema;", False),
        (b'"schema"', False),
        (b"1,schema,", False),
        (b"run,schema", False),
        (b'"run","schema"', False),
    ],
)
def test_a_header_is_known_by_its_first_cell(lines, is_header):
    assert parts._heads(lines) is is_header


@pytest.mark.parametrize(
    ("lines", "count"),
    [(b"", 0), (b"a", 0), (b"a\nb\n", 2), (b"a\r\nb\r\nc", 2), (b'"a\rb"\n', 2), (b'"a\r\r\n\r"\r\n', 4)],
)
def test_lines_end_as_the_csv_module_counts_them(lines, count):
    assert parts._ends(lines) == count


def shown(path):
    return [(part.lines, part.before, part.start, len(part.header)) for part in parts.parts(path)]


def test_each_part_knows_its_lines_and_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", len(FIRST) + len(SECOND) + 10)
    path, old = tmp_path / "x.csv", HEADER.rsplit(",", 4)[0] + "\n"
    path.write_bytes(HEADER.encode() + FIRST + SECOND + THIRD + MARK + old.encode() + FIRST + SECOND + THIRD[:-1])
    wide, narrow, first = len(COLUMNS), len(COLUMNS) - 4, len(HEADER)
    second = first + len(FIRST + SECOND + THIRD) + len(MARK) + len(old)
    assert shown(path) == [
        (FIRST + SECOND, 1, first, wide),
        (THIRD, 3, first + len(FIRST + SECOND), wide),
        (FIRST, 5, second, narrow),
        (SECOND, 6, second + len(FIRST), narrow),
        (THIRD[:-1], 7, second + len(FIRST + SECOND), narrow),
    ]


def test_a_line_longer_than_a_part_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 50)
    path, quoted = tmp_path / "x.csv", with_breaks(UNTIMED, 40)
    path.write_bytes(HEADER.encode() + FIRST + quoted + SECOND)
    found = shown(path)
    assert [lines for lines, *_ in found] == [FIRST, quoted, SECOND]
    assert [before for _, before, *_ in found] == [1, 2, 43]


# Tables.


def test_memory_is_foreseen_by_how_many_rows_the_first_part_has():
    found = columns(FIRST + SECOND)
    table = GrowingTable(100 * len(FIRST + SECOND))
    table.add(parts.Part(Path("x.csv"), FIRST + SECOND, COLUMNS, 1, 0), found)
    assert len(table.columns["run"]) == len(table.columns["seconds_median"]) == 210
    table.add(parts.Part(Path("x.csv"), FIRST + SECOND, COLUMNS, 3, 0), found)
    assert len(table.columns["run"]) == 210
    assert table.table().pass_.tolist() == [1, 2, 1, 2]
    assert sizes(table.table()) == sizes(tabulate([TIMED])) == SIZES


def test_memory_that_is_too_small_grows_to_twice_as_much():
    rows = [changed(UNTIMED, pass_=number) for number in range(1, 6)]
    table = GrowingTable(0)
    for row, room in zip(rows, (1, 2, 4, 4, 8), strict=True):
        lines = line(cells(row)).encode()
        table.add(parts.Part(Path("x.csv"), lines, COLUMNS, 1, 0), columns(lines))
        assert len(table.columns["block"]) == room
    assert table.table().pass_.tolist() == [1, 2, 3, 4, 5]


def test_rows_are_told_apart_by_numbers_below_0_too():
    found, place = distinct(np.array([3, -2, 3, -2, 0]), np.array([1, 1, 1, -1, 0]))
    assert [column.tolist() for column in found] == [[-2, -2, 0, 3], [-1, 1, 0, 1]]
    assert place.tolist() == [3, 1, 3, 0, 2]


def test_groups_of_many_rows_have_them_in_order():
    for size in (60, 3000):
        found = groups(np.arange(size) % 3)
        assert [own.tolist() for own in found] == [[*range(first, size, 3)] for first in range(3)]
    assert groups(np.zeros(0, np.int64)) == []


def test_what_rows_share_is_used_in_the_order_of_the_first_of_them():
    kernels = ("numpy.loop.norms", "torch.vmap.norms", "jax.vmap.norms")
    table = tabulate([record(kernel=kernel, status="failed") for kernel in kernels])
    assert table[np.array([2, 0, 2])].used("kernel") == ["jax.vmap.norms", "numpy.loop.norms"]
    assert table[np.zeros(0, np.int32)].used("kernel") == []
