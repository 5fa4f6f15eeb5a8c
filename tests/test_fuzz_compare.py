"""Whatever a results file, a thresholds file or the command line holds: a verdict or a sentence, never a traceback."""

import csv
import io
import itertools
import json
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from measured import NOISY, STEADY, cells, cells_of, passes, refused, scaled, shown
from test_thresholds import WHOLE

from gradkernels.bench.cli import main
from gradkernels.bench.compare.thresholds import Thresholds
from gradkernels.bench.compare.thresholds_toml import read_thresholds
from gradkernels.record import COLUMNS, HEADER, Malformed, line, read

YARDSTICKS = passes(STEADY, kernel="control") + passes(STEADY[::-1], kernel="canary")
BEFORE = passes(STEADY) + passes(NOISY, n=10) + refused("timeout", 2, n=1000) + YARDSTICKS
AFTER = passes(scaled(STEADY, 1.1), run="run-b") + passes(NOISY, n=10, run="run-b", commit="fedcba987654")
GOOD = HEADER + "".join(line(cells(record)) for record in BEFORE)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A working folder with a good file on each side."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "A.csv").write_text(GOOD)
    (folder / "B.csv").write_text(HEADER + "".join(line(cells(record)) for record in AFTER))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def run(*arguments):
    """Exit code and output of `gradkernels compare`; whatever it raises is a failure of the test."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["compare", *arguments])
    assert code in range(6)
    assert "Traceback" not in err.getvalue()
    assert (code == 2) == err.getvalue().startswith("gradkernels: ")
    return code, out.getvalue()


WORDS = [
    "",
    "ok",
    "wrong",
    "timeout",
    "control",
    "canary",
    "[bold]",
    "../x",
    "a\nb",
    '"',
    "\x00",
    "\x1b[31m",
    "é",
    "\u2028",
]
NUMBERS = ["nan", "inf", "-1", "0", "1e-320", "1e308", "5e-324", "9" * 30, "1e999", "١", "0x1", " 1", "1_0"]
odd = st.sampled_from(WORDS) | st.sampled_from(NUMBERS)
cell = odd | st.text(max_size=8) | st.floats(0, 1e308, exclude_min=True).map(repr) | st.integers(0, 99).map(str)
edited = st.lists(st.tuples(st.integers(0, len(BEFORE) - 1), st.sampled_from(COLUMNS), cell), min_size=1, max_size=5)


WAYS = [["damaged.csv", "B.csv"], ["A.csv", "vs", "B.csv", "damaged.csv"], ["A.csv", "damaged.csv", "--format", "json"]]
ways = st.sampled_from(WAYS)


@given(edited, ways)
@example([(i, "seconds_median", ["1e-320", "1e308"][i % 2]) for i in range(8)], WAYS[0])
@example([(i, "kernel", "control") for i in range(3)], WAYS[0])
def test_cells_of_any_kind_are_read_as_they_stand_or_refused(edits, way):
    rows = [["" if value is None else str(value) for value in cells(record)] for record in BEFORE]
    for position, column, text in edits:
        rows[position][COLUMNS.index(column)] = text
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    read_and_compared(text.getvalue().encode(), way)


piece = st.binary(max_size=4) | st.sampled_from([b",", b'"', b"\n", b"\r\n", b"\0", b"-", b"e", b"\xff", b"schema,"])
cuts = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 60), piece), min_size=1, max_size=3)


@given(cuts, ways)
@example([(len(GOOD), 0, GOOD.encode())], WAYS[0])
@example([(len(HEADER), len(GOOD), b"")], WAYS[1])
def test_a_damaged_file_is_read_as_it_stands_or_refused(cuts, way):
    raw = GOOD.encode()
    for start, length, new in cuts:
        raw = raw[:start] + new + raw[start + length :]
    read_and_compared(raw, way)


def read_and_compared(raw, way):
    with open("damaged.csv", "wb") as file:
        file.write(raw)
    try:
        records = read("damaged.csv")
    except Malformed:
        assert run("damaged.csv", "B.csv")[0] == 2
        return
    assert [shown(record) for record in records] == list(cells_of(raw))
    code, out = run(*way, "--fail-slower", "5%", "--fail-undecided", "--force")
    if "json" in way and code != 2:
        json.loads(out)


fractions = st.sampled_from(["5%", "0.05", "0", "1e3%", "1e308", "1e-400", "-1", "nan", "5", "%", "1%%"]) | st.text()
names = st.sampled_from(["numpy.*", "numpy.loop", "*", "[", "[!]", "**", "control", "canary", "norms"]) | st.text()
options = st.one_of(
    st.tuples(st.sampled_from(["--delta", "--fail-slower"]), fractions),
    st.tuples(st.sampled_from(["--kernel", "--quantity"]), names),
    st.tuples(st.just("--format"), st.sampled_from(["table", "markdown", "csv", "json", "yaml", ""])),
    st.tuples(st.just("--thresholds"), st.sampled_from(["A.csv", "missing", ".", "", "\0"]) | st.text()),
    st.tuples(st.sampled_from(["--force", "--fail-undecided", "--help", "--with", "-", "--", "vs"])),
)
files = st.lists(st.sampled_from(["A.csv", "B.csv", "vs"]) | st.text(max_size=5), max_size=5)


@given(st.just(["A.csv", "B.csv"]) | files, st.lists(options, max_size=4))
@example(["A.csv", "B.csv"], [("--delta", "1e306%"), ("--fail-slower", "1e308%")])
@example(["A\udcff.csv", "B.csv"], [])
def test_any_command_line_ends_with_a_verdict_or_a_sentence(files, options):
    run(*files, *itertools.chain.from_iterable(options))


toml = st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 10), st.text(max_size=6)), min_size=1, max_size=4)
value = st.recursive(
    st.booleans() | st.integers() | st.floats() | fractions | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "kernel", "delta"]), inner),
    max_leaves=6,
)
setting = st.tuples(st.sampled_from(["delta", "fail-slower", "overrides", "n"]), value)


@given(toml.map(lambda edits: damaged(WHOLE, edits)) | st.lists(setting, max_size=3).map(lambda s: written(s)))
def test_any_thresholds_file_is_read_or_refused(text):
    with open("limits.toml", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    with suppress(ValueError):
        assert isinstance(read_thresholds(Path("limits.toml")), Thresholds)
    run("A.csv", "B.csv", "--thresholds", "limits.toml")


def damaged(text, edits):
    for start, length, new in edits:
        text = text[:start] + new + text[start + length :]
    return text


def written(settings):
    """The settings as TOML, whose inline values look like JSON but for the colon of a table."""
    return "".join(f"{name} = {inline(value)}\n" for name, value in settings)


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {inline(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)
