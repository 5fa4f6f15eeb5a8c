"""Results files: no time without a proof, nothing lost on the way to the disk and back, no wrong silent read."""

import csv

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from measured import cells, cells_of, changed, shown

from gradkernels.coordinates import Coordinates
from gradkernels.record import (
    COLUMNS,
    HEADER,
    KINDS,
    OLD_HEADERS,
    TIMES,
    Malformed,
    Measurement,
    Record,
    Status,
    append,
    has_current_columns,
    line,
    read,
)
from gradkernels.record.reading import ASCENDING

DESIGN = (
    "schema, run, started, machine, cpu, cores, threads, os, python, versions, commit, problem, quantity, kernel, "
    "backend, n, features, parameters, dtype, layout, device, seed, pass, status, reason, error, tolerance, rounds, "
    "iterations, seconds_median, seconds_min, seconds_q25, seconds_q75, seconds_first, peak_bytes, least_bytes, "
    "limit_seconds, block, role, way, out"
)
OK = Record(
    1, "a1b2", "2026-01-01T00:00:00+00:00", "m", "cpu, 2 GHz", 2, "Linux", "3.11.9", "numpy=2.4.6", "",
    Coordinates("linear", "per_sample", 1000, 1, "float64", "C", "cpu", 1), 2, 0, 1,
    Measurement("numpy.broadcast.per_sample", "numpy", Status.ok,
    error=1e-16, tolerance=2e-15, rounds=60, iterations=7, seconds_median=1.5e-6, seconds_min=1e-6, seconds_q25=1.2e-6,
    seconds_q75=2e-6, seconds_first=1e-3, peak_bytes=2**40, least_bytes=32_000, limit_seconds=1e-300),
)  # fmt: skip
UNTIMED = dict.fromkeys(TIMES)
FAILED = changed(OK, status="failed", reason='it said "no", twice', error=None, tolerance=None, n=10, **UNTIMED)
AGAIN = [changed(OK, pass_=2), changed(FAILED, pass_=2)]


@pytest.fixture
def path(tmp_path):
    """A results file with two good rows."""
    path = tmp_path / "r.csv"
    path.write_text(HEADER)
    append(path, [OK, FAILED])
    return path


def rewrite(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_the_columns_are_the_published_ones_in_order():
    assert ", ".join(COLUMNS) == DESIGN
    assert HEADER.replace(",", ", ") == DESIGN + "\n"


@pytest.mark.parametrize("column", TIMES)
@pytest.mark.parametrize("status", ["wrong", "unsupported", "failed", "timeout"])
def test_a_time_is_refused_without_the_status_ok(status, column):
    with pytest.raises(ValueError, match=f"status '{status}' carries {column}; only 'ok' may"):
        changed(OK, status=status, **{**UNTIMED, column: 1.0})


def test_every_column_of_seconds_is_a_time_but_the_machines_limit():
    assert {name for name in COLUMNS if "seconds" in name} == {*TIMES, "limit_seconds"}


@pytest.mark.parametrize(
    ("error", "tolerance"),
    [(None, 1e-9), (1e-9, None), (2e-9, 1e-9), (float("nan"), 1e-9), (1e-9, float("nan")), (-1e-9, 1e-9),
     (1e-9, float("inf"))],
)  # fmt: skip
def test_ok_is_refused_without_a_passed_check(error, tolerance):
    with pytest.raises(ValueError, match="'ok' without a passed check: error"):
        changed(OK, error=error, tolerance=tolerance)


@pytest.mark.parametrize("column", TIMES)
@pytest.mark.parametrize("value", [0.0, -1e-6, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(column, value):
    with pytest.raises(ValueError, match=f"'ok' without a positive time: {column} is"):
        changed(OK, **{column: value})


def test_ok_is_refused_without_a_time():
    with pytest.raises(ValueError, match="seconds_median is None"):
        changed(OK, seconds_median=None)


def test_an_unknown_status_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="status is 'great'; allowed: ok, wrong, unsupported, failed, timeout"):
        changed(OK, status="great")


def test_what_was_appended_is_read_back(path):
    assert read(path) == [OK, FAILED]
    append(path, [changed(OK, pass_=2)])
    assert read(path)[2].pass_ == 2


def test_a_row_is_one_line_whatever_its_reason_holds(path):
    append(path, [changed(FAILED, pass_=2, reason="first\r\nsecond\rthird\u2028fourth, \udcff")])
    assert path.read_bytes().count(b"\n") == 4
    assert read(path)[2].measurement.reason == "first second third fourth, ?"


@pytest.mark.parametrize("change", [lambda raw: b"\xef\xbb\xbf" + raw, lambda raw: raw.replace(b"\n", b"\r\n")],
                         ids=["byte order mark", "CRLF"])  # fmt: skip
def test_what_other_programs_do_to_text_is_read(path, change):
    path.write_bytes(change(path.read_bytes()))
    assert read(path) == [OK, FAILED]


def test_concatenated_files_are_read(path):
    path.write_bytes(path.read_bytes() + b"\xef\xbb\xbf" + HEADER.encode())
    append(path, AGAIN)
    assert read(path) == [OK, FAILED, *AGAIN]


def test_columns_that_a_newer_schema_added_at_the_end_are_passed_over(path):
    first, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{first},new,newer", *(f"{row},7,x" for row in rows)]) + "\n")
    append(path, [])
    assert read(path) == [OK, FAILED]


def test_an_older_file_and_a_newer_one_concatenate(path):
    first, *rows = (HEADER + "".join(line(cells(row)) for row in AGAIN)).splitlines()
    newer = "\n".join([f"{first},new", *(f"{row},7" for row in rows)]) + "\n"
    path.write_text(path.read_text() + newer)
    assert read(path) == [OK, FAILED, *AGAIN]


def without_last_columns(path, count):
    """The lines of a file as an older schema has them."""
    return [line.rsplit(",", count)[0] for line in path.read_text().splitlines()]


def test_a_file_of_schema_2_says_what_its_kernels_are(path):
    append(path, [changed(OK, kernel="canary", block=2)])
    whole = read(path)
    old = without_last_columns(path, 3)
    assert old[0] + "\n" == OLD_HEADERS[1]
    path.write_text("\n".join(old) + "\n")
    assert read(path) == whole
    assert read(path)[2].block == 2
    assert [row.columns()["role"] for row in read(path)] == ["kernel", "kernel", "canary"]
    assert not has_current_columns(path)


def test_a_file_of_schema_1_has_one_block_a_pass(path):
    old = without_last_columns(path, 4)
    assert old[0] + "\n" == OLD_HEADERS[0]
    path.write_text("\n".join(old) + "\n")
    assert read(path) == [OK, FAILED]
    assert not has_current_columns(path)
    newer = [changed(OK, pass_=2, block=3)]
    path.write_text("\n".join([*old, HEADER + line(cells(newer[0]))]))
    assert read(path) == [OK, FAILED, *newer]
    path.write_text(HEADER)
    assert has_current_columns(path)


def test_a_row_says_which_process_of_which_pass_timed_it():
    row = changed(OK, pass_=4, block=2)
    assert (row.pass_id, row.block_id, OK.block_id) == (("a1b2", 4), ("a1b2", 4, 2), ("a1b2", 1, 1))
    assert row.columns()["block"] == 2


def test_a_header_alone_holds_no_records(path):
    path.write_text(HEADER)
    assert read(path) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema,", "scheme,", "line 1: column 1 is 'scheme', expected 'schema'; this is not a results file"),
        (",limit_seconds,block,role,way,out", "", "line 1: column 37 is missing, expected 'limit_seconds'"),
        (",limit_seconds", "", "line 1: column 37 is 'block', expected 'limit_seconds'"),
        (",block", ",bloc", "line 1: column 38 is 'bloc', expected 'block'"),
        ("run,started", "started,run", "line 1: column 2 is 'started', expected 'run'"),
        (",1000,", ",many,", "line 2, column n: 'many' is not a number"),
        (",1000,", ",1e3,", "line 2, column n: '1e3' is not a number"),
        (",1000,", ",,", "line 2, column n: '' is not a number"),
        (",1000,", ",1_000,", "line 2, column n: '1_000' is not a plain number"),
        (",1000,", ", 1000,", "line 2, column n: ' 1000' is not a plain number"),
        (",1000,", ",١٠,", "line 2, column n: '١٠' is not a plain number"),
        (",1000,", ",0,", "line 2, column n: 0 is too small"),
        (",1000,", ",-7,", "line 2, column n: -7 is too small"),
        ("1.5e-06", "1.5e-06s", "line 2, column seconds_median: '1.5e-06s' is not a number"),
        ("1.5e-06", "", "line 2, column status: 'ok' without a positive time: seconds_median is None"),
        ("1.5e-06", "-1.5e-06", "line 2, column status: 'ok' without a positive time: seconds_median is -1.5e-06"),
        ("1e-16", "1", "line 2, column status: 'ok' without a passed check: error 1.0, tolerance 2e-15"),
        (",0,1,ok,", ",0,0,ok,", "line 2, column pass: 0 is too small"),
        (",60,7,", ",0,7,", "line 2, column rounds: 0 is too small"),
        (",60,7,", ",60,0,", "line 2, column iterations: 0 is too small"),
        (",2,1,Linux", ",2,0,Linux", "line 2, column threads: 0 is too small"),
        (",2,1,Linux", ",0,1,Linux", "line 2, column cores: 0 is too small"),
        (",1000,1,", ",1000,0,", "line 2, column features: 0 is too small"),
        (",1000,", ",9223372036854775808,", "line 2, column n: 9223372036854775808 is too large"),
        ("\n1,", "\n0,", "line 2, column schema: 0 is too small"),
        ("\n1,", "\n4,", "line 2, column schema: 4 is newer than 3, the newest that this gradkernels knows; update it"),
        ("1e-300", "nan", "line 2, column limit_seconds: nan is no positive time"),
        ("1e-300", "-1.0", "line 2, column limit_seconds: -1.0 is no positive time"),
        ("1e-300", "0", "line 2, column limit_seconds: 0.0 is no positive time"),
        ("1e-300", "inf", "line 2, column limit_seconds: inf is no positive time"),
        ("1e-06", "1.3e-06", "line 2, column seconds_min: 1.3e-06 is above seconds_q25, which is 1.2e-06"),
        (",1e-06,1.2e-06,", ",1.6e-06,,", "line 2, column seconds_min: 1.6e-06 is above seconds_median, which is 1.5e"),
        ("1.2e-06", "1.6e-06", "line 2, column seconds_q25: 1.6e-06 is above seconds_median, which is 1.5e-06"),
        ("2e-06,0", "1.4e-06,0", "line 2, column seconds_median: 1.5e-06 is above seconds_q75, which is 1.4e-06"),
        (",ok,", ",fine,", "line 2, column status: status is 'fine'; allowed: ok,"),
        (",ok,", ",wrong,", "line 2, column status: a record with status 'wrong' carries seconds_median and"),
        ("numpy=2.4.6,", "", "line 2: 40 columns, expected 41"),
        ("numpy=2.4.6,", "numpy=2.4.6,,", "line 2: 42 columns, expected 41"),
        ('"it said', 'it said', "line 3: 42 columns, expected 41"),
        ('twice"', 'twice"x', "line 3: ',' expected after '\"'"),
        ('twice",', 'twice,', "line 3: unexpected end of data"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named_by_line_and_column(path, old, new, says):
    rewrite(path, old, new)
    with pytest.raises(Malformed) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, {says}")


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\n\n\n"])
def test_a_blank_line_holds_nothing_that_could_be_wrong(path, blank):
    path.write_text(path.read_text() + blank, newline="")
    assert read(path) == [OK, FAILED]
    path.write_text(path.read_text() + HEADER + line(cells(AGAIN[0])) + blank, newline="")
    assert read(path) == [OK, FAILED, AGAIN[0]]


def test_a_line_of_blanks_is_no_blank_line(path):
    path.write_text(path.read_text() + "  \n")
    with pytest.raises(Malformed, match="line 4: 1 column, expected 41"):
        read(path)


@pytest.mark.parametrize(("at", "number"), [(0, 1), (1, 2)])
def test_a_line_that_ends_as_on_old_macs_is_said_to(path, at, number):
    lines = path.read_text().splitlines()
    ends = ["\r" if position >= at else "\n" for position in range(3)]
    path.write_text("".join(f"{line}{end}" for line, end in zip(lines, ends, strict=True)), newline="")
    with pytest.raises(Malformed, match="ends in a carriage return alone") as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}, line {number}: ends in a carriage return alone; save the file with LF or CRLF at the ends of lines"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("a\rb", r"a\rb"), ("a\nb", "a\nb"), ("a\r\nb", "a\r\nb"), ('a ""b"" c', 'a "b" c')],
    ids=["a carriage return", "a line feed", "both", "quotes"],
)
def test_a_quoted_value_may_hold_line_breaks(path, text, value):
    rewrite(path, '"it said ""no"", twice"', f'"{text}"')
    path.write_bytes(path.read_bytes().replace(b"a\nb", text.encode()))
    assert read(path)[1].measurement.reason == value


def test_a_row_that_is_there_twice_is_refused_with_both_lines(path):
    append(path, [AGAIN[0], AGAIN[1], changed(OK, seconds_median=1.6e-6)])
    with pytest.raises(Malformed, match="both hold") as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}, line 2, and {path}, line 6 both hold kernel numpy.broadcast.per_sample of problem=linear, "
        "quantity=per_sample, n=1000, features=1, dtype=float64, layout=C, device=cpu, threads=1 for run a1b2, pass 1; "
        "keep one of the two rows"
    )


@pytest.mark.parametrize(
    "change", [{"run": "b"}, {"pass_": 2}, {"machine": "other"}, {"kernel": "x"}, {"n": 11}, {"threads": 2}]
)
def test_what_differs_in_run_pass_machine_kernel_or_case_is_no_row_twice(path, change):
    append(path, [changed(OK, **change)])
    assert read(path) == [OK, FAILED, changed(OK, **change)]


def test_a_last_line_that_is_cut_off_anywhere_is_named(path):
    whole = path.read_bytes()
    for length in range(len(whole) - len(line(cells(FAILED))) + 1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Malformed, match="line 3: cut off; `gradkernels run --resume` mends it"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b'{"a": 1}\n', b"a,b\n1,2\n", b"\x89PNG\r\n", "é".encode("latin1")]
)
def test_other_files_are_no_results_files(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(Malformed, match="not a results file"):
        read(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.csv")


ROLES = [
    ("numpy.loop+[chunk=5].norms@out", "kernel", "numpy.loop+[chunk=5]", True),
    ("numpy.loop.norms", "kernel", "numpy.loop", False),
    ("control", "control", "control", False),
    ("canary", "canary", "canary", False),
    ("bandwidth.copy", "bandwidth", "bandwidth.copy", False),
    ("convert.jax", "conversion", "convert.jax", False),
    ("batch", "batch", "batch", False),
    ("mine", "kernel", "mine", False),
]


@pytest.mark.parametrize(("kernel", "role", "way", "out"), ROLES)
def test_a_row_says_what_its_kernel_is(path, kernel, role, way, out):
    path.write_text(HEADER)
    append(path, [changed(OK, kernel=kernel)])
    columns = read(path)[0].columns()
    assert (columns["role"], columns["way"], columns["out"]) == (role, way, out)
    assert path.read_text().endswith(f",1,{role},{way},{out}\n")


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("control,numpy.broadcast,False", "column role: 'control' is given, but it is 'kernel' of kernel 'numpy."),
        ("kernel,numpy.loop,False", "column way: 'numpy.loop' is given, but it is 'numpy.broadcast' of kernel 'nu"),
        ("kernel,numpy.broadcast,True", "column out: True is given, but it is False of kernel 'numpy.broadcast.per_"),
        ("kernel,numpy.broadcast,no", "column out: 'no' is not True or False"),
    ],
)
def test_what_contradicts_the_kernel_is_refused(path, new, says):
    rewrite(path, "kernel,numpy.broadcast,False", new)
    with pytest.raises(Malformed, match="line 2") as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 2, {says}")


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "tRue"])
def test_a_spreadsheet_may_write_truth_as_it_likes(path, text):
    path.write_text(HEADER)
    append(path, [changed(OK, kernel="numpy.broadcast.per_sample@out")])
    rewrite(path, ",True\n", f",{text}\n")
    assert read(path)[0].columns()["out"] is True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "".join(f"{place},{line}" for place, line in enumerate(text.splitlines(True))),
         "column 1 is '0', expected 'schema'; that is the index of a DataFrame, which to_csv(index=False) leaves out"),
        (lambda text: text.replace(",", ";"), "expected 'schema'; save the file with commas between its columns"),
    ],
)  # fmt: skip
def test_what_other_programs_make_of_a_header_is_said(path, change, says):
    path.write_text(change(path.read_text()))
    with pytest.raises(Malformed, match="line 1") as caught:
        read(path)
    assert says in str(caught.value)


def test_whole_numbers_that_were_kept_as_floats_are_whole(path):
    rewrite(path, ",60,7,", ",60.0,7.00,")
    assert read(path) == [OK, FAILED]
    rewrite(path, ",60.0,", ",60.5,")
    with pytest.raises(Malformed, match=r"line 2, column rounds: '60.5' is not a number"):
        read(path)
    rewrite(path, ",60.5,", f",{2**53 + 2}.0,")  # it may have been the number beside it
    with pytest.raises(Malformed, match=r"column rounds: '9007199254740994.0' is not a number"):
        read(path)


def test_rows_of_several_schemas_side_by_side_in_one_table_are_read(path):
    """As pandas concatenates them: without a block and what follows from the kernel for rows of schema 1."""
    _, *rows = without_last_columns(path, 4)
    newest = changed(OK, schema=3, pass_=2, block=2)
    path.write_text("\n".join([HEADER.strip(), *(f"{row},,,," for row in rows)]) + "\n" + line(cells(newest)))
    assert read(path) == [OK, FAILED, newest]
    rewrite(path, ",2,kernel,", ",,kernel,")
    with pytest.raises(Malformed, match="line 4, column block: '' is not a number"):
        read(path)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_a_file_goes_through_pandas_and_back(path, quoting):
    pd = pytest.importorskip("pandas")
    append(path, [changed(OK, kernel="canary", pass_=2), changed(OK, kernel="numpy.loop.norms@out", pass_=2)])
    append(path, [changed(FAILED, peak_bytes=None, rounds=None, pass_=3)])
    before = read(path)
    frame = pd.read_csv(path)
    assert frame["peak_bytes"].dtype == "float64"  # there are rows without
    frame.to_csv(path, index=False, quoting=quoting)
    assert read(path) == before


def test_the_fastest_rows_are_found_without_a_word_on_yardsticks(path):
    pd = pytest.importorskip("pandas")
    path.write_text(HEADER)
    others = [changed(OK, kernel=name, seconds_median=1.1e-6) for name in ("control", "canary", "bandwidth.copy")]
    append(path, [*others, OK, changed(OK, kernel="numpy.loop.per_sample", seconds_median=1.6e-6)])
    frame = pd.read_csv(path)
    chosen = frame.query("role == 'kernel' and status == 'ok'")
    fastest = chosen.loc[chosen.groupby(["quantity", "n"]).seconds_median.idxmin()]
    assert fastest["way"].tolist() == ["numpy.broadcast"]


text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
count = st.integers(1, 2**63 - 1)
seconds = st.floats(0, 1e300, exclude_min=True)
BY_TYPE = {
    "str": text, "bool": st.booleans(), "int": count, "int | None": st.none() | count,
    "float | None": st.none() | seconds,
}  # fmt: skip
RULED = {"status": st.just("ok"), "error": st.just(1e-12), "tolerance": st.just(1e-12), "seconds_median": seconds,
         "schema": st.just(1), "limit_seconds": st.none() | seconds}  # fmt: skip


def ordered(columns):
    """The record with these columns and its quantiles in their order."""
    quantiles = sorted(columns[name] or columns["seconds_median"] for name in ASCENDING)
    return Record.of({**columns, **dict(zip(ASCENDING, quantiles, strict=True))})


@given(st.fixed_dictionaries({name: RULED.get(name, BY_TYPE[kind]) for name, kind in KINDS.items()}).map(ordered))
def test_any_record_survives_the_round_trip(tmp_path_factory, record):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_text(HEADER)
    append(path, [record])
    assert read(path) == [record]


GOOD = (HEADER + line(cells(OK)) + line(cells(FAILED))).encode()
NASTY = [b"", b",", b'"', b"\n", b"\r", b"\r\n", b"\0", b"nan", b"inf", b"-1", b"1e999", b"_", b" ", b"ok", b"\xff",
         b"\xef\xbb\xbf", b"9" * 5000, HEADER.encode(), b"schema,"]  # fmt: skip
piece = st.sampled_from(NASTY) | st.binary(max_size=4)
edits = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 40), piece), min_size=1, max_size=4)


@given(edits)
@example([(len(GOOD), 0, GOOD)])
def test_a_damaged_file_is_malformed_or_read_as_it_stands(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    damaged = GOOD
    for start, length, new in edits:
        damaged = damaged[:start] + new + damaged[start + length :]
    path.write_bytes(damaged)
    try:
        records = read(path)
    except Malformed:
        return
    assert [shown(record) for record in records] == list(cells_of(damaged))


def test_a_device_that_never_ends_is_not_read():
    with pytest.raises(Malformed, match="^/dev/zero: a device; this is not a results file$"):
        read("/dev/zero")
