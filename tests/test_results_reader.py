"""The reader of files of any size: by columns it reads what is read line by line, and refuses what is refused there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from measured import cells, changed, passes, record, refused

from gradkernels import record as records
from gradkernels.bench.cli import main
from gradkernels.bench.results import arrow_rows, parts, reader
from gradkernels.bench.results.reader import read_results
from gradkernels.bench.results.table import NUMBERS, STATUSES, aligned_tables, distinct, groups, joined, tabulate
from gradkernels.record import COLUMNS, HEADER, Malformed, line

TIMES = {"seconds_min": 1e-6, "seconds_q25": 1.5e-6, "seconds_q75": 3e-6, "seconds_first": 0.5, "rounds": 9}
ROWS = [
    *passes([2e-6, 2.5e-6], **TIMES, iterations=7, peak_bytes=2**40, least_bytes=80, limit_seconds=1e-7, commit="a,b"),
    *refused("failed", 2, n=10, kernel="torch.vmap[chunk=5].norms", machine='a "desk", no lap'),
    *refused("unsupported", 1, n=10, problem="linear/é"),
    record(pass_=3, n=1000, seconds_median=1e-3, run="run-b", threads=2),
]
GOOD = HEADER + "".join(line(cells(row)) for row in ROWS)
SECOND = HEADER + "".join(line(cells(changed(row, run=f"{row.run}-2"))) for row in ROWS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of a few lines, so that every file has several."""
    monkeypatch.setattr(parts, "PART_BYTES", 1000)


@pytest.fixture
def singly(monkeypatch):
    """Reads line by line, as where pyarrow is not installed."""

    def read(*files):
        with monkeypatch.context() as patch:
            patch.setattr(reader, "arrow", lambda: None)
            return read_results(files)

    return read


def rows_of(table):
    """What a table holds of each row, whatever the positions."""
    numbers = [["" if np.isnan(x) else x for x in table.numbers[name].tolist()] for name in NUMBERS]
    ids, pass_ = table.pass_ids
    shared = [
        [getattr(table, plural)[place] for place in getattr(table, name)]
        for name, plural in (("run", "runs"), ("case", "cases"), ("kernel", "kernels"), ("reason", "reasons"))
    ]
    status = [STATUSES[place] for place in table.status]
    return list(zip(*shared, status, table.pass_.tolist(), [ids[place] for place in pass_], *numbers, strict=True))


def expected(path):
    """The same of every record that is read line by line."""
    return [
        (
            (row.run, row.started, row.machine, row.versions, row.commit),
            row.case,
            row.kernel,
            row.measurement.reason,
            row.measurement.status,
            row.pass_,
            (row.run, row.pass_),
            *("" if (value := getattr(row.measurement, name)) is None else value for name in NUMBERS),
        )
        for row in records.read(path)
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw + b"\n\r\n",
        lambda raw: raw + b"\xef\xbb\xbf" + SECOND.encode(),
        lambda raw: raw + SECOND.replace(COLUMNS[-1] + "\n", COLUMNS[-1] + ",new\n").replace("0.5,", "0.5,").encode(),
        lambda raw: raw.replace(b"it is failed", b'"it ""is"",\nfailed"'),
        lambda raw: raw.replace(b"it is failed", b'"a\rb\r\nc\n"'),
        lambda raw: raw.replace(b"it is failed", b'it "is" failed'),
        lambda raw: raw.replace(HEADER.encode(), b'"' + HEADER.strip().encode().replace(b",", b'","') + b'"\n'),
        lambda raw: raw.replace(b"1.5e-06", b" 1.5e-06\t"),
        lambda raw: raw.replace(b"1.5e-06", b"+15e-7"),
    ],
    ids=["plain", "CRLF", "mark", "blank", "two", "wider", "quoted", "breaks", "inner", "header", "padded", "plus"],
)
def test_columns_hold_what_single_lines_hold(tmp_path, singly, change):
    raw = change(GOOD.encode())
    if raw.count(b",new\n"):
        first, second = raw.split(HEADER.strip().encode() + b",new\n")
        raw = first + HEADER.strip().encode() + b",new\n" + second.replace(b"\n", b",7\n")
    path = tmp_path / "x.csv"
    path.write_bytes(raw)
    told = expected(path)
    assert len(told) in (len(ROWS), 2 * len(ROWS))
    assert rows_of(read_results([path])) == told
    assert rows_of(singly(path)) == told


def test_good_files_are_read_by_columns(tmp_path, monkeypatch):
    """What is read singly is right but slow: of a good file nothing may be."""
    monkeypatch.setattr(reader, "parse", lambda *_: pytest.fail("read line by line"))
    for number, text in enumerate([GOOD, GOOD.replace("\n", "\r\n"), GOOD + SECOND]):
        path = tmp_path / f"{number}.csv"
        path.write_text(text, newline="")
        assert len(read_results([path])) in (len(ROWS), 2 * len(ROWS))


def test_rows_that_differ_in_one_thing_are_told_apart_by_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "parse", lambda *_: pytest.fail("read line by line"))
    others = ({"run": "b"}, {"pass_": 2}, {"machine": "lap"}, {"n": 7}, {"kernel": "canary"}, {"block": 2})
    rows = [record(kernel="control", seconds_median=1.0, **other) for other in ({}, *others) if "kernel" not in other]
    rows.append(record(kernel="canary", seconds_median=1.0))
    (tmp_path / "x.csv").write_text(HEADER + "".join(line(cells(row)) for row in rows))
    assert len(read_results([tmp_path / "x.csv"])) == 7


def test_the_shipped_results_are_read_by_columns(monkeypatch):
    monkeypatch.setattr(reader, "parse", lambda *_: pytest.fail("read line by line"))
    monkeypatch.setattr(parts, "PART_BYTES", 2**18)
    path = Path(__file__).parents[1] / "results" / "reference.csv"
    table = read_results([path])
    assert len(table) == path.read_text().count("\n") - 1
    assert table.seconds[0] == 1.8662500000000001e-06


DAMAGES = [b"", b",", b'"', b"\n", b"\r", b"\r\n", b"\0", b"nan", b"inf", b"-1", b"0", b"1e999", b"_", b" ",
           b"ok", b"0x1", b"\xff", b"\xef\xbb\xbf", b"9" * 30, HEADER.encode(), b"schema,",
           b"2e-06", b"failed", b"\n\n"]  # fmt: skip
piece = st.sampled_from(DAMAGES) | st.binary(max_size=4)
edits = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 40), piece), min_size=1, max_size=3)


@given(edits)
@example([(len(GOOD), 0, GOOD.encode())])
def test_a_damaged_file_is_refused_or_read_as_line_by_line(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    damaged = GOOD.encode()
    for start, length, new in edits:
        damaged = damaged[:start] + new + damaged[start + length :]
    path.write_bytes(damaged)
    try:
        told = expected(path)
    except Malformed:
        with pytest.raises(Malformed):
            read_results([path])
        return
    assert rows_of(read_results([path])) == told


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",10,1,2,", ",ten,1,2,", "line 4, column n: 'ten' is not a number"),
        (",10,1,2,", ", 10,1,2,", "line 4, column n: ' 10' is not a plain number"),
        (",10,1,2,", ",0x10,1,2,", "line 4, column n: '0x10' is not a number"),
        (",3,ok,", ",0,ok,", "line 7, column pass: 0 is too small"),
        ("1e-07", "-1e-07", "line 2, column limit_seconds: -1e-07 is no positive time"),
        ("1e-07", "nan", "line 2, column limit_seconds: nan is no positive time"),
        ("1e-06,1.5e-06", "1.6e-06,1.5e-06", "line 2, column seconds_min: 1.6e-06 is above seconds_q25"),
        ("1e-06,1.5e-06", "2.1e-06,", "line 2, column seconds_min: 2.1e-06 is above seconds_median"),
        (",ok,", ",good,", "line 2, column status: status is 'good'"),
        (",0.001,", ",,", "line 7, column status: 'ok' without a positive time: seconds_median is None"),
        (",failed,", ",ok,", "line 4, column status: 'ok' without a passed check"),
        ("0.0,1e-12,,,0.001", "1.0,1e-12,,,0.001", "line 7, column status: 'ok' without a passed check: error 1.0"),
        (",kernel,numpy.loop,", ",canary,numpy.loop,", "line 2, column role: 'canary' is given, but it is 'kernel' of"),
        (",numpy.loop,False", ",numpy.loop,True", "line 2, column out: True is given, but it is False of kernel 'nump"),
        (",numpy.loop,False", ",numpy.lop,False", "line 2, column way: 'numpy.lop' is given, but it is 'numpy.loop'"),
        ("\n1,", "\n99,", "line 2, column schema: 99 is newer than 3, the newest that this gradkernels knows"),
    ],
)
def test_a_fault_is_named_by_file_line_and_column(tmp_path, old, new, says):
    path = tmp_path / "x.csv"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(Malformed, match="line") as caught:
        read_results([path])
    assert str(caught.value).startswith(f"{path}, {says}")


def test_the_first_fault_is_named_though_later_parts_are_read_already(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(GOOD.replace(",ok,", ",okay,", 1) + HEADER.replace(",run,", ",walk,"))
    with pytest.raises(Malformed, match="line 2, column status"):
        read_results([path])


def test_a_fault_below_a_second_header_is_named_by_its_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(GOOD + SECOND.replace(",10,1,2,", ",ten,1,2,", 1))
    with pytest.raises(Malformed, match=f"^{re.escape(str(path))}, line 11, column n: 'ten' is not a number"):
        read_results([path])


@pytest.mark.parametrize("header", [HEADER, "\ufeff" + HEADER])
def test_a_second_header_that_is_none_is_named_by_its_line(tmp_path, header):
    path = tmp_path / "x.csv"
    path.write_text(GOOD + header.replace(",run,", ",walk,") + SECOND)
    with pytest.raises(Malformed) as caught:
        read_results([path])
    assert str(caught.value) == f"{path}, line 8: column 2 is 'walk', expected 'run'; this is not a results file"


@pytest.mark.parametrize("second", [HEADER, HEADER[:-5] + "\udcff\n"])
def test_a_byte_that_is_no_text_is_named_by_its_place(tmp_path, second):
    path = tmp_path / "x.csv"
    raw = (GOOD + second + SECOND[len(HEADER) :].replace("failed", "\udcff", 1)).encode(errors="surrogateescape")
    path.write_bytes(raw)
    with pytest.raises(Malformed) as caught:
        read_results([path])
    where = raw.index(b"\xff")
    assert where > 2 * parts.PART_BYTES
    assert str(caught.value) == f"{path}: not UTF-8 text at byte {where}; this is not a results file"


def test_a_last_line_that_is_cut_off_anywhere_is_named(tmp_path):
    path = tmp_path / "x.csv"
    last = len(line(cells(ROWS[-1])))
    for left in range(1, last):
        path.write_text(GOOD[:-left])
        with pytest.raises(Malformed) as caught:
            read_results([path])
        assert str(caught.value) == f"{path}, line 7: cut off; `gradkernels run --resume` mends it"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b"a,b\n1,2\n", b"\x89PNG\r\n", "é".encode("latin1"), b"x" * 10**6]
)
def test_other_files_are_no_results_files(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(Malformed, match=f"^{re.escape(str(path))}[:,].*not a results file"):
        read_results([path])


def test_nothing_is_read_of_no_file_and_of_a_header():
    assert len(read_results([])) == 0
    for name in ("run", "case", "kernel", "reason"):
        assert read_results([]).where(name, bool).dtype == bool
    nothing = tabulate([])
    assert (nothing.pass_ids[0], nothing.process.tolist(), nothing.own_block.tolist()) == ([], [], [])
    assert [len(part) for part in aligned_tables([nothing, tabulate(ROWS)])] == [0, len(ROWS)]
    both, whole = joined([nothing, tabulate(ROWS)]), ("run", "case", "kernel", "reason", "status", "pass_", "block")
    assert [getattr(both, name).dtype.kind for name in whole] == ["i"] * 7


def test_a_row_of_two_files_is_refused_with_both_lines(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(GOOD)
    Path("b.csv").write_text(HEADER + line(cells(changed(ROWS[0], run="c"))) + line(cells(ROWS[1])))
    told = "gradkernels: a.csv, line 3, and b.csv, line 3 both hold kernel numpy.loop.norms of problem=linear"
    for command in (["fastest", "a.csv", "b.csv"], ["compare", "a.csv", "b.csv", "vs", "a.csv"]):
        assert main(command) == 2
        assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize(
    "command", [["fastest", "x.csv"], ["compare", "x.csv", "b.csv"], ["run", "--resume", "--out", "x.csv"]]
)
def test_every_command_refuses_a_row_that_is_there_twice(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text(GOOD + line(cells(ROWS[0])))
    Path("b.csv").write_text(GOOD)
    assert main(command) == 2
    assert re.search("x.csv, line 2, and .*x.csv, line 8 both hold kernel numpy.loop.norms", capsys.readouterr().err)


def test_a_file_that_is_given_twice_is_named(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "b.csv").symlink_to("a.csv")
    with pytest.raises(Malformed, match="b.csv is given twice; its rows count once, so name it once"):
        read_results([tmp_path / "a.csv", tmp_path / "b.csv"])


# Tables.


def test_tables_are_joined_in_order():
    one, two = tabulate(ROWS[:3]), tabulate(ROWS[2:])
    assert rows_of(joined([one, two])) == rows_of(one) + rows_of(two)
    assert rows_of(joined([])) == []


@given(st.lists(st.tuples(*[st.sampled_from([0, 1, 2, 7, 2**40])] * 3), max_size=20))
def test_distinct_rows_are_ascending_and_found_again(rows):
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)] or [np.zeros(0, np.int64)] * 3
    found, place = distinct(*columns)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == sorted(set(rows))
    assert [sorted(set(rows))[one] for one in place] == rows
    assert [own.tolist() for own in groups(place)] == [
        [position for position, row in enumerate(rows) if row == one] for one in sorted(set(rows))
    ]


def test_text_that_pyarrow_would_take_otherwise_is_left_to_the_csv_module():
    plain = arrow_rows.is_plain
    assert plain(b'a,"b, ""c""",d\n"e",f\r\n')
    for text in (b'a"b,"c"\n', b'"a"b\n', b'a,"b\n', b"a\rb\n", b'a"b"\n', b"a\n\r"):
        assert not plain(text)
