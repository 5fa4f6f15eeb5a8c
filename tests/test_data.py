"""Data: bundled sets are the published numbers, files come in exactly, and whatever is no number is named."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gradkernels.problems.data.datasets import load_dataset, notebook_points

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TENTH = 0.1 + 0.2  # 0.30000000000000004: lost by a reader that rounds


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a file into the working folder and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def parquet(columns, names=None):
    content = io.BytesIO()
    pq.write_table(pa.table(columns, names=names), content)
    return content.getvalue()


def refusal(*arguments, **options):
    with pytest.raises((ValueError, OSError)) as refused:
        load_dataset(*arguments, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_notebook_is_the_coursework_data():
    data = load_dataset("notebook")
    assert (data.size, data.features, data.columns) == (40, 1, ("x",))
    assert data.x[:3] == pytest.approx([0.97802303, 0.09908945, -0.4371054], abs=5e-9)
    assert data.y[:3] == pytest.approx([6.0030427, 5.40825442, 2.49900085], abs=5e-9)
    # The least squares line of the 40 points, as numpy.polyfit of the original arrays gives it.
    assert np.polyfit(data.x, data.y, 1) == pytest.approx([2.68246893, 3.9507064], abs=5e-9)


def test_notebook_points_are_the_float32_draws_of_torch_and_numpy():
    first, second = notebook_points().values()
    assert first.tolist() == [float(np.float32(0.18694752)), float(np.float32(-0.23685427))]
    assert second.tolist() == [float(np.float32(0.9890115)), float(np.float32(-1.7473384))]


def test_nothing_touches_the_global_random_states():
    np.random.seed(7)  # noqa: NPY002 the global state is what this is about
    torch.manual_seed(7)
    load_dataset("notebook").draw(10, seed=0)
    notebook_points()
    assert np.random.rand() == np.random.RandomState(7).rand()  # noqa: NPY002
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(7))


def test_notebook_points_ignore_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert notebook_points()["point 1"][0] == pytest.approx(0.18694752, abs=5e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_diabetes_is_scikit_learns():
    data = load_dataset("diabetes")
    assert data.x.shape == (442, 10)
    assert data.columns[:4] == ("age", "sex", "bmi", "bp")
    assert data.y[:3].tolist() == [151, 75, 141]
    assert data.x[0, :2] == pytest.approx([0.03807591, 0.05068012], abs=5e-9)
    assert (data.x**2).sum(0) == pytest.approx(np.ones(10))


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [
        ("sklearn.datasets", "diabetes", "scikit-learn"),
        ("pandas", "d.csv", "pandas"),
        ("pyarrow.parquet", "d.parquet", "pyarrow"),
        ("pyarrow.feather", "d.feather", "pyarrow"),
        ("openpyxl", "d.xlsx", "openpyxl"),
    ],
)
def test_a_missing_library_is_a_sentence_with_the_extra(written, monkeypatch, module, source, package):
    written("d.csv", "x,y\n1,2\n")
    for name in ("d.parquet", "d.feather", "d.xlsx"):
        written(name, parquet({"x": [1.0], "y": [2.0]}))
    monkeypatch.setitem(sys.modules, module, None)
    message = refusal(source, "y" if "." in source else None)
    assert f"needs {package}: pip install 'gradkernels[data]'" in message


FILES = {
    "d.csv": f"a,y,b\n1,{TENTH!r},3\n-4e-7,5,6\n",
    "d.CSV": f"\ufeffa, y ,b\r\n\r\n1,{TENTH!r},3\r\n  \r\n-4e-7,5,6",
    "d.parquet": parquet({"a": [1.0, -4e-7], "y": [TENTH, 5], "b": pa.array([3, 6], pa.int8())}),
    "d.npz": npz(a=[1.0, -4e-7], y=[TENTH, 5], b=np.array([3, 6], np.int8)),
}


@pytest.mark.parametrize("name", FILES)
def test_files_come_in_exactly(written, name):
    data = load_dataset(written(name, FILES[name]), "y")
    assert data.columns == ("a", "b")
    assert data.x.tolist() == [[1.0, 3.0], [-4e-7, 6.0]]
    assert data.y.tolist() == [TENTH, 5.0]
    assert data.x.dtype == data.y.dtype == np.float64
    assert data.name == name


def test_csv_may_have_a_space_after_commas(written):
    data = load_dataset(written("d.csv", 'x, "y, in mm"\n1, "2"\n3, 4\n'), "y, in mm")
    assert data.x.tolist() == [1, 3]
    assert data.y.tolist() == [2, 4]


def test_csv_keeps_every_bit(written):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(2000) * 10.0 ** rng.integers(-300, 300, 2000)
    data = load_dataset(written("d.csv", "x,y\n" + "".join(f"{value!r},0\n" for value in values.tolist())), "y")
    assert (data.x == values).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", "x,y\n1,2\n3,4\n"),
        ("d.npz", npz(x=[1, 3], y=[2, 4])),
        ("d.npz", npz(x=[[1], [3]], y=[[2], [4]])),
        ("d.parquet", parquet({"__index_level_0__": [7, 8], "x": [1, 3], "y": [2, 4]})),
    ],
)
def test_one_feature_is_one_dimensional(written, name, content):
    data = load_dataset(written(name, content), "y")
    assert data.x.tolist() == [1, 3]
    assert data.y.tolist() == [2, 4]
    assert data.columns == ("x",)


def test_npz_of_x_and_y_needs_no_target(written):
    data = load_dataset(written("d.npz", npz(x=[[1, 2], [3, 4]], y=[5, 6])))
    assert data.x.tolist() == [[1, 2], [3, 4]]
    assert data.y.tolist() == [5, 6]
    assert data.columns == ("x[0]", "x[1]")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", "x,y\nTrue,1\nFALSE,2\n"),
        ("d.npz", npz(x=[True, False], y=[1, 2])),
        ("d.parquet", parquet({"x": [True, False], "y": [1, 2]})),
    ],
)
def test_booleans_are_one_and_zero(written, name, content):
    assert load_dataset(written(name, content), "y").x.tolist() == [1.0, 0.0]


def test_integers_beyond_64_bits_are_numbers(written):
    assert load_dataset(written("d.csv", f"x,y\n{10**30},1\n2,2\n"), "y").x.tolist() == [1e30, 2.0]


REFUSED = {
    "empty": ("d.csv", "", "d.csv is empty"),
    "blank": ("d.csv", "\n \n", "d.csv is empty"),
    "no rows": ("d.csv", "x,y\n", "no rows, only the columns x and y"),
    "one column": ("d.csv", "y\n1\n", "only the column 'y'"),
    "semicolons": ("d.csv", "x;y\n1;2\n", "only the column 'x;y'; a target and at least one feature are needed, sep"),
    "unknown target": ("d.csv", "x,yy\n1,2\n", "no column 'y'; did you mean yy?"),
    "text": ("d.csv", "x,y\n1,2\nabc,4\n", "column 'x' is 'abc' in row 2 (line 3), not a number"),
    "underscores": ("d.csv", "x,y\n1_000,2\n", "column 'x' is '1_000' in row 1 (line 2)"),
    "long text": ("d.csv", f"x,y\n{'a' * 99},4\n", f"column 'x' is '{'a' * 36}... in row 1"),
    "zeros after a crash": ("d.csv", "x,y\n1,2\n\0\0\0", r"column 'x' is '\x00\x00\x00' in row 2 (line 3)"),
    "date": ("d.csv", "x,y\n2020-01-31,2\n", "column 'x' is '2020-01-31' in row 1 (line 2)"),
    "missing": ("d.csv", "x,y\n1,2\n3,\n", "column 'y' has no value in row 2 (line 3); correct it"),
    "cut off": ("d.csv", "x,z,y\n1,2,3\n4,5", "column 'y' has no value in row 2 (line 3)"),
    "NA": ("d.csv", "x,y\nNA,2\n3,nan\n1,1\n", "'x' has no value in row 1 (line 2) (and 1 more row is like it)"),
    "infinity": ("d.csv", "x,y\n1,2\n3,-inf\n", "column 'y' is -inf in row 2 (line 3)"),
    "beyond floats": ("d.csv", f"x,y\n1,2\n{10**400},4\n", "column 'x' is inf in row 2 (line 3)"),
    "blank lines count": ("d.csv", "x,y\n\n1,2\n  \n\nb,4\n", "column 'x' is 'b' in row 2 (line 6)"),
    "quoted lines count": ("d.csv", 'x,y\n"1\n",2\nb,4\n', "column 'x' is 'b' in row 2 (line 4)"),
    "old line ends": ("d.csv", "x,y\r1,2\r \r3,4\rb,4\r", "column 'x' is 'b' in row 3 (line 5)"),
    "old line ends, empty row": ("d.csv", "x,y\r1,2\r\r,\r", "column 'x' has no value in row 2 (line 4)"),
    "duplicate": ("d.csv", "x,x,y\n1,2,3\n", "two columns are called 'x'"),
    "duplicate but for spaces": ("d.csv", "x, x ,y\n1,2,3\n", "two columns are called 'x'"),
    "nameless": ("d.csv", ",x,y\n0,2,3\n", "column 1 has no name"),
    "too long": ("d.csv", "x,y\n1,2,3\n4,5,6\n", "line 2 has 3 fields, the header has 2"),
    "too long later": ("d.csv", "x,y\n1,2\n\n4,5,6\n", "line 4 has 3 fields, the header has 2"),
    "open quote": ("d.csv", 'x,y\n1,"2\n3,4\n', "not a CSV file that can be read: EOF inside string"),
    "vast field": ("d.csv", f"{'x' * 200_000},y\n1,2\n", "not a CSV file that can be read, line 1: field larger"),
    "latin-1": ("d.csv", "größe,y\n1,2\n".encode("latin-1"), "not UTF-8 text (byte 3); save it as UTF-8"),
    "UTF-16": ("d.csv", "x,y\n1,2\n".encode("utf-16"), "not UTF-8 text (byte 1)"),
    "fake Parquet": ("d.parquet", "x,y\n1,2\n3,4\n", "not a Parquet file that can be read"),
    "Parquet text": ("d.parquet", parquet({"x": ["1", "b"], "y": [1, 2]}), "column 'x' is 'b' in row 2, not a num"),
    "Parquet null": ("d.parquet", parquet({"x": [1, None], "y": [1, 2]}), "column 'x' has no value in row 2;"),
    "Parquet bool null": ("d.parquet", parquet({"x": [True, None], "y": [1, 2]}), "'x' has no value in row 2;"),
    "Parquet date": ("d.parquet", parquet({"x": pa.array([0], pa.date32()), "y": [1]}), "column 'x' holds dates"),
    "Parquet duration": ("d.parquet", parquet({"x": pa.array([0], pa.duration("s")), "y": [1]}), "holds durations"),
    "Parquet list": ("d.parquet", parquet({"x": [[1, 2]], "y": [1]}), "column 'x' is array([1, 2]) in row 1, not"),
    "Parquet duplicate": ("d.parquet", parquet([[1], [2], [3]], ["x", "x", "y"]), "two columns are called 'x'"),
    "fake NPZ": ("d.npz", "x,y\n1,2\n", "d.npz is not an NPZ file, or is cut off"),
    "NPZ text": ("d.npz", npz(x=["a", "b"], y=[1, 2]), "column 'x' is 'a' in row 1, not a number"),
    "NPZ complex": ("d.npz", npz(x=[1j], y=[1]), "column 'x' holds complex numbers"),
    "NPZ date": ("d.npz", npz(x=np.array(["2020-01-01"], "M8[D]"), y=[1]), "column 'x' holds dates"),
    "NPZ NaN": ("d.npz", npz(x=[[1, 2], [3, np.nan]], y=[1, 2]), "column 'x[1]' has no value in row 2;"),
    "NPZ lengths": ("d.npz", npz(x=[1, 2, 3], y=[1, 2]), "x (3,), y (2,); allowed are (n,) and (n, d)"),
    "NPZ scalar": ("d.npz", npz(x=1, y=[1]), "x (), y (1,); allowed"),
    "NPZ without arrays": ("d.npz", npz(), "the arrays of d.npz are none"),
    "NPZ without rows": ("d.npz", npz(x=[], y=[]), "no rows, only the columns x and y"),
    "extension": (
        "d.txt",
        "x,y\n1,2\n",
        "d.txt has extension .txt; data files end in .csv, .tsv, .csv.gz, .tsv.gz, .parquet, ",
    ),
    "no extension": (
        "data",
        "x,y\n1,2\n",
        "data has no extension; data files end in .csv, .tsv, .csv.gz, .tsv.gz, .parquet, ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(written, case):
    name, content, expected = REFUSED[case]
    assert expected in refusal(written(name, content), "y")


def test_a_missing_target_lists_the_columns(written):
    assert "--target (target=) a, b or c" in refusal(written("d.csv", "a,b,c\n1,2,3\n"))
    assert "--target (target=) x, y or z" in refusal(written("d.npz", npz(x=[1], y=[2], z=[3])))


def test_many_columns_are_cut_short(written):
    names = [f"c{i}" for i in range(50)]
    content = f"{','.join(names)}\n{','.join('1' * 50)}\n"
    assert refusal(written("d.csv", content)).endswith("c18, c19 or 30 more")


def test_what_is_not_there(tmp_path):
    assert refusal("nowhere.csv") == "cannot read nowhere.csv: No such file or directory"
    assert refusal("diabetis") == "there is no data set 'diabetis'; did you mean diabetes or digits?"
    assert refusal("zzz") == (
        "there is no data set 'zzz'; known: notebook, diabetes, breast_cancer, digits, "
        "a file ending in .csv or .tsv or .csv.gz or .tsv.gz or .parquet or .feather or .npz or .xlsx"
    )
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in refusal(str(tmp_path / "folder.csv"))


def test_bundled_sets_have_their_own_target():
    assert "leave out --target y" in refusal("notebook", "y")


def test_drop_na_leaves_out_whole_rows(written):
    name = written("d.csv", "x,z,y\n1,2,3\n,5,6\n7,8,inf\n9,True,12\n")
    assert "True" in refusal(name, "y", drop_na=True)
    name = written("d.csv", "x,z,y\n1,2,3\n,5,6\n7,8,inf\n9,11,12\n")
    data = load_dataset(name, "y", drop_na=True)
    assert data.x.tolist() == [[1, 2], [9, 11]]
    assert data.y.tolist() == [3, 12]


def test_dropping_everything_is_refused(written):
    name = written("d.csv", "x,y\n1,\n,2\n")
    assert "every row (2) has a missing or infinite value; none is left" in refusal(name, "y", drop_na=True)


@pytest.mark.parametrize("name", ["d.parquet", "d.npz"])
def test_a_truncated_file_is_refused_wherever_it_ends(written, name):
    content = parquet({"x": [1.0], "y": [2.0]}) if name == "d.parquet" else npz(x=[1.0], y=[2.0])
    for end in range(0, len(content), 7):
        assert name in refusal(written(name, content[:end]))


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


def test_npz_never_unpickles(written):
    name = written("d.npz", npz(x=np.array([Evil()], object), y=[1]))
    assert "Object arrays cannot be loaded" in refusal(name)
    assert not Path("unpickled").exists()


def test_draw_of_the_whole_is_the_data_in_order():
    data = load_dataset("notebook")
    x, y = data.draw(40, seed=3)
    assert (x == data.x).all()
    assert (y == data.y).all()
    x[:] = 0
    assert data.x.all()


@pytest.mark.parametrize("source", ["notebook", "diabetes"])
def test_draw_of_a_part_takes_different_rows_whole(source):
    data = load_dataset(source)
    rows = [(*np.atleast_1d(x), y) for x, y in zip(*data.draw(30, seed=1), strict=True)]
    known = {(*np.atleast_1d(x), y) for x, y in zip(data.x, data.y, strict=True)}
    assert len(set(rows)) == 30
    assert set(rows) <= known


def test_draw_is_uniform_over_the_rows():
    data = load_dataset("notebook")
    drawn = np.concatenate([data.draw(10, seed)[0] for seed in range(2000)])
    counts = np.array([(drawn == x).sum() for x in data.x])
    # 2000 draws with probability 1/4 each: mean 500, standard deviation 19.4; five of them either way.
    assert counts.min() > 403
    assert counts.max() < 597


def test_draw_repeats_for_the_same_seed_only():
    data = load_dataset("notebook")
    assert (data.draw(10, 5)[0] == data.draw(10, 5)[0]).all()
    assert (data.draw(10, 5)[0] != data.draw(10, 6)[0]).any()


def test_more_rows_than_there_are_need_resample():
    data = load_dataset("notebook")
    with pytest.raises(ValueError, match=r"notebook has 40 rows, 41 were asked for; .* --resample \(resample=True\)"):
        data.draw(41, seed=0)
    x, y = data.draw(400, seed=0, resample=True)
    pairs = set(zip(data.x, data.y, strict=True))
    assert x.shape == y.shape == (400,)
    assert set(zip(x, y, strict=True)) <= pairs
    # Drawn, not repeated in turn: no block of 40 holds all rows, but for a chance of 1e-16.
    assert all(len(set(x[start : start + 40])) < 40 for start in range(0, 400, 40))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="0 rows of notebook were asked for; at least 1"):
        load_dataset("notebook").draw(0, seed=0)
