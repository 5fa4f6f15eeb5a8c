"""Tables as people have them: other signs and kinds of files, columns that are no features, classes by their names."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from measured import measure_at_once

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.problems.data.datasets import load_dataset
from gradkernels.problems.data.selection import column_names

pytest.importorskip("pandas")
LOGISTIC, SOFTMAX = gk.LogisticRegression(), gk.SoftmaxRegression(classes=3)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a file into the working folder and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write


def refusal(*arguments, **options):
    with pytest.raises(ValueError, match=".") as refused:
        load_dataset(*arguments, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def workbook(*rows, more=()):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for other in more:
        book.create_sheet("more").append(other)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def feather(**columns):
    pa, of = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    content = io.BytesIO()
    of.write_feather(pa.table(columns), content)
    return content.getvalue()


# Kinds of files.

TABLE = "a,y,b\n1,5,3\n-4e-7,7,6\n"
KINDS = {
    "d.tsv": lambda: TABLE.replace(",", "\t"),
    "d.csv.gz": lambda: gzip.compress(TABLE.encode()),
    "d.TSV.GZ": lambda: gzip.compress(TABLE.replace(",", "\t").encode()),
    "d.xlsx": lambda: workbook(["a", "y", "b"], [1, 5, 3], [None] * 3, [-4e-7, 7, 6]),
    "d.feather": lambda: feather(a=[1, -4e-7], y=[5.0, 7.0], b=[3, 6]),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_holds_the_same_table(written, name):
    data = load_dataset(written(name, KINDS[name]()), "y")
    assert (data.name, data.columns, data.notes) == (name, ("a", "b"), ())
    assert data.x.tolist() == [[1, 3], [-4e-7, 6]]
    assert data.y.tolist() == [5, 7]


@pytest.mark.parametrize(("sep", "sign"), [(";", ";"), ("semicolon", ";"), ("tab", "\t"), (r"\t", "\t"), ("|", "|")])
def test_the_sign_between_columns_is_what_it_is_said_to_be(written, sep, sign):
    data = load_dataset(written("d.csv", TABLE.replace(",", sign)), "y", sep=sep)
    assert data.x.tolist() == [[1, 3], [-4e-7, 6]]
    assert load_dataset(written("e.tsv", TABLE), "y", sep=",").y.tolist() == [5, 7]


def test_a_line_of_another_length_is_named_with_its_sign(written):
    name = written("d.csv", "x;y\n1;2;3\n")
    assert refusal(name, "y", sep=";").endswith(
        "line 2 has 3 fields, the header has 2; quote fields that hold the sign ';'"
    )
    assert "or by what --sep (sep=) says" in refusal(name, "y")


@pytest.mark.parametrize("sep", ["", "ab", '"', "x", "7", "\n", "§§"])
def test_what_cannot_stand_between_columns_is_refused(written, sep):
    assert "(sep=) cannot stand between columns; write one sign, or tab, comma" in refusal(
        written("d.csv", TABLE), "y", sep=sep
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.csv.gz", b"a,y\n1,2\n", "d.csv.gz is not a file that gzip made, or is cut off"),
        ("d.csv.gz", gzip.compress(TABLE.encode())[:-9], "d.csv.gz is not a file that gzip made, or is cut off"),
        ("d.npz.gz", b"x", "d.npz.gz has extension .npz.gz; data files end in .csv"),
        ("d.gz", b"x", "d.gz has extension .gz; data files end in .csv"),
        ("d.feather", b"a,y\n1,2\n", "d.feather is not a Feather file that can be read"),
        ("d.xlsx", b"a,y\n1,2\n", "d.xlsx is not an Excel file that can be read"),
    ],
)
def test_damaged_files_are_one_sentence(written, name, content, says):
    assert says in refusal(written(name, content), "y")


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        (
            [["a", "y"], [1, 2]],
            [[1]],
            "d.xlsx has sheets Sheet, more; keep one sheet, or save the one that is meant as",
        ),
        ([], [], "d.xlsx has no cells"),
        ([["a", "y"], [1, "two"], [3, 4]], [], "column 'y' is 'two' in row 1 (line 2), not a number"),
        ([["a", "y"], [], [1, None], [3, 4]], [], "column 'y' has no value in row 1 (line 3)"),
        ([["a", None, "y"], [1, 7, 2]], [], "column 2 has no name"),
        ([["a", "y"], [1, 2, 3]], [], "column 3 has no name"),
        ([["a", "a", "y"], [1, 7, 2]], [], "two columns are called 'a'"),
        ([["a", "y"]], [], "has no rows"),
    ],
)
def test_a_workbook_is_named_by_its_rows(written, rows, more, says):
    assert says in refusal(written("d.xlsx", workbook(*rows, more=more)), "y")


def test_a_sign_is_for_text(written):
    assert "--sep ',' (sep=) is for text; d.xlsx has" in refusal(
        written("d.xlsx", workbook(["a", "y"], [1, 2])), "y", sep=","
    )


def test_the_home_folder_is_meant_by_its_sign(written, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written("d.csv", TABLE)
    assert load_dataset("~/d.csv", "y").y.tolist() == [5, 7]


# Columns.

WIDE = "id,name,a,b,y\n1,first,10,20,5\n2,second,30,40,7\n"


@pytest.mark.parametrize(
    ("options", "columns", "x"),
    [
        ({"ignore": ["id", "name"]}, ("a", "b"), [[10, 20], [30, 40]]),
        ({"ignore": ["[in]*"]}, ("a", "b"), [[10, 20], [30, 40]]),
        ({"features": ["b", "a"]}, ("b", "a"), [[20, 10], [40, 30]]),
        ({"features": ["?"], "ignore": ["a"]}, ("b",), [20, 40]),
        ({"features": ["b", "?"]}, ("b", "a"), [[20, 10], [40, 30]]),
    ],
)
def test_columns_are_chosen_by_name(written, options, columns, x):
    data = load_dataset(written("d.csv", WIDE), "y", **options)
    assert data.columns == columns
    assert data.x.tolist() == x
    assert data.y.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ignore": ["idd"]}, "d.csv: --ignore idd: there is no column 'idd'; did you mean id?"),
        ({"features": ["c"]}, "d.csv: --features-from c: there is no column 'c'; known: id, name, a, b, y"),
        ({"ignore": ["y"]}, "d.csv: --ignore y: that is the target; name a column beside it"),
        ({"features": ["y"]}, "d.csv: --features-from y: that is the target"),
        ({"ignore": ["*"]}, "d.csv: --ignore (ignore=) leaves no feature beside the target 'y'"),
        ({"features": ["a"], "ignore": ["a"]}, "--ignore (ignore=) leaves no feature"),
        ({}, "column 'name' is 'first' in row 1 (line 2), not a number; correct it, or leave the column out with --ig"),
    ],
)
def test_columns_that_are_none_are_named(written, options, says):
    assert says in refusal(written("d.csv", WIDE), "y", **options)


def test_gaps_in_columns_that_are_left_out_do_not_matter(written):
    data = load_dataset(written("d.csv", "a,b,y\n1,,2\n3,4,5\n"), "y", ignore=["b"])
    assert data.x.tolist() == [1, 3]


def test_names_of_columns_may_hold_commas():
    assert column_names('a, "b, c",d*') == ("a", "b, c", "d*")
    assert column_names(None) == ()


def test_bundled_sets_have_their_own_columns():
    assert "has its own columns; leave out --features-from, --ignore and --sep" in refusal("notebook", ignore=["x"])
    assert "has no missing values; leave out --drop-na (drop_na=)" in refusal("notebook", drop_na=True)


# Rows with gaps, and classes.


def test_rows_that_are_left_out_are_counted(written):
    data = load_dataset(written("d.csv", "x,y\n1,2\n,3\n4,inf\n5,6\n"), "y", drop_na=True)
    assert data.notes == ("d.csv: left out 2 of 4 rows, where a value is missing or infinite",)
    assert data.y.tolist() == [2, 6]


@pytest.mark.parametrize(
    ("problem", "labels", "y", "note"),
    [
        (SOFTMAX, "setosa virginica setosa versicolor", [0, 2, 0, 1], "setosa = 0, versicolor = 1, virginica = 2"),
        (SOFTMAX, "b a b a", [1, 0, 1, 0], "a = 0, b = 1"),
        (SOFTMAX, "1 2 3 1", [0, 1, 2, 0], "1 = 0, 2 = 1, 3 = 2"),
        (SOFTMAX, "-5 7 0 0", [0, 2, 1, 1], "-5 = 0, 0 = 1, 7 = 2"),
        (SOFTMAX, "2 0 1 1", [2, 0, 1, 1], None),
        (SOFTMAX, "2 0 2 2", [2, 0, 2, 2], None),
        (LOGISTIC, "no yes no no", [0, 1, 0, 0], "no = 0, yes = 1"),
        (LOGISTIC, "1 2 2 1", [0, 1, 1, 0], "1 = 0, 2 = 1"),
        (LOGISTIC, "-1 1 1 -1", [0, 1, 1, 0], "-1 = 0, 1 = 1"),
        (LOGISTIC, "0.25 0.5 0.5 1", [0.25, 0.5, 0.5, 1], None),
        (LOGISTIC, "0 1 1 0", [0, 1, 1, 0], None),
    ],
)
def test_classes_are_numbered_and_told(written, problem, labels, y, note):
    rows = "".join(f"{place},{label}\n" for place, label in enumerate(labels.split()))
    data = load_dataset(written("d.csv", f"x,kind\n{rows}"), "kind", problem=problem)
    assert data.y.tolist() == y
    assert data.notes == ((f"d.csv: classes of kind: {note}",) if note else ())
    problem.targets(data.y, 0)


@pytest.mark.parametrize(
    ("content", "problem", "says"),
    [
        (
            "1,a\n2,b\n3,c\n",
            LOGISTIC,
            "column 'y' has 3 labels (a, b, c), the problem 2 classes; softmax(classes=3) takes",
        ),
        ("1,a\n2,b\n", gk.LinearRegression(), "column 'y' is 'a' in row 1 (line 2), not a number"),
        ("1,a\n2,b\n", None, "column 'y' is 'a' in row 1 (line 2), not a number"),
        ("1,a\n2,\n3,b\n", LOGISTIC, "column 'y' has no value in row 2 (line 3)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(written, content, problem, says):
    assert says in refusal(written("d.csv", f"x,y\n{content}"), "y", problem=problem)


def test_rows_without_a_label_are_left_out_where_that_is_asked_for(written):
    data = load_dataset(written("d.csv", "x,y\n1,a\n2,\n3,b\n"), "y", drop_na=True, problem=LOGISTIC)
    assert (data.x.tolist(), data.y.tolist()) == ([1, 3], [0, 1])
    assert data.notes == (
        "d.csv: left out 1 of 3 rows, where a value is missing or infinite", "d.csv: classes of y: a = 0, b = 1",
    )  # fmt: skip


# On the command line.

FEW = ("--kernel", "numpy.matmul", "--quantity", "gradient", "--passes", "1", "--budget", "0.2s", "--sizes", "3")


def test_a_run_says_what_became_of_rows_and_classes(written, capsys, monkeypatch):
    measure_at_once(monkeypatch)
    rows = "".join(f"{place};{place % 5};x{place};{'ab'[place % 2]}\n" for place in range(8))
    written("d.csv", f"id;z;note;y\n{rows};9;x;a\n")
    words = ["--problem", "logistic", "--data", "d.csv", "--target", "y", "--sep", ";", "--drop-na", "--out", "x.csv"]
    assert main(["run", *words, "--ignore", "note", *FEW]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [
        "d.csv: left out 1 of 9 rows, where a value is missing or infinite", "d.csv: classes of y: a = 0, b = 1",
    ]  # fmt: skip
    assert any("gradient of logistic/d.csv, 2 features" in line for line in told)


def test_notes_on_data_are_not_in_a_table_for_machines(written, capsys, monkeypatch):
    measure_at_once(monkeypatch)
    written("d.csv", "x,y\n" + "1,a\n2,b\n" * 4)
    words = ["--problem=logistic", "--data=d.csv", "--target=y", "--out=x.csv", "--format=csv"]
    assert main(["run", *words, *FEW]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("machine,problem,")
    assert "classes of y" not in told.out
    assert "d.csv: classes of y: a = 0, b = 1\n" in told.err


@pytest.mark.parametrize(
    "option", ["--sep=;", "--ignore=a", "--features-from=a", "--drop-na", "--target=y", "--resample"]
)
def test_options_of_a_file_need_one(written, capsys, option):
    assert main(["run", option, *FEW]) == 2
    name = option.partition("=")[0]
    assert capsys.readouterr().err == f"gradkernels: {name} was given without --data; name the file that it is about\n"


def test_an_estimate_reads_the_same_files(written, capsys):
    rows = "".join(f"{place % 7 - 3};x{place};{'ab'[place % 2]}\n" for place in range(20))
    written("d.csv", f"z;note;y\n{rows}")
    words = ["--problem=logistic", "--data=d.csv", "--target=y", "--sep=;", "--features-from=z", "--draws=30"]
    assert main(["estimate", *words]) == 0
    assert "classes of y: a = 0, b = 1" in capsys.readouterr().out


def test_the_last_row_of_a_file_is_looked_at_before_anything_is_timed(written, capsys):
    written("d.csv", "x,y\n" + "1,2\n" * 50 + "1,two\n")
    assert main(["run", "--data=d.csv", "--target=y", "--out=x.csv", *FEW]) == 2
    assert "column 'y' is 'two' in row 51 (line 52)" in capsys.readouterr().err
    assert not Path("x.csv").exists()
