"""Files larger than memory, as dask arrays: columns by name, arrays by name, rows in blocks as the files have them."""

import re

import numpy as np
import pytest

import gradkernels as gk

dask = pytest.importorskip("dask")
pytest.importorskip("dask.dataframe")
pandas = pytest.importorskip("pandas")


P = gk.LinearRegression()
THETA, X, Y = P.draw(50, seed=0, features=3)
FRAME = pandas.DataFrame({"a": X[:, 0], "y": Y, "b": X[:, 1], "c": X[:, 2], "name": ["n"] * 50, "whole": range(50)})


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The same rows in every kind of file."""
    zarr = pytest.importorskip("zarr")
    folder = tmp_path_factory.mktemp("files")
    for kind in ("parquet", "csv", "both"):
        (folder / kind).mkdir()
    for number, rows in enumerate((slice(0, 30), slice(30, 50))):
        FRAME[rows].to_parquet(folder / "parquet" / f"{number}.parquet", row_group_size=20, index=False)
        FRAME[rows].to_csv(folder / "csv" / f"{number}.csv", index=False)
    (folder / "both" / "1.csv").touch()
    (folder / "both" / "1.parquet").touch()
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    np.save(folder / "xy.npy", np.column_stack([X[:, 0], Y, X[:, 1:]]))
    group = zarr.open_group(folder / "rows.zarr", mode="w")
    for name, array, chunks in (("x", X, (20, 2)), ("y", Y, (50,)), ("z", Y, (9,))):
        group.create_array(name, data=array, chunks=chunks)
    zarr.save(folder / "one.zarr", np.column_stack([Y, X]))
    (folder / "text.txt").write_text("a")
    (folder / "bad.npy").write_text("a")
    with dask.config.set(scheduler="synchronous"):
        yield folder


TABLE = {"target": "y", "ignore": ["name", "whole"]}
OPENED = {
    "a folder of Parquet": ("parquet", TABLE, (20, 10, 20)),
    "a glob of Parquet": ("parquet/*.parquet", {"target": "y", "features": ["[abc]"]}, (20, 10, 20)),
    "one file of Parquet": ("parquet/0.parquet", TABLE, (20, 10)),
    "a folder of CSV": ("csv", TABLE, (30, 20)),
    "one file of CSV": ("csv/1.csv", TABLE, (20,)),
    "NPY beside NPY": ("x.npy", {"target": "y.npy"}, (50,)),
    "one NPY": ("xy.npy", {"target": 1}, (50,)),
    "a group of Zarr": ("rows.zarr", {"target": "y", "ignore": ["z"]}, (20, 20, 10)),
    "one array of Zarr": ("one.zarr", {"target": -4}, (50,)),
}


@pytest.mark.parametrize("opened", OPENED)
def test_a_gradient_of_files_is_that_of_their_rows(opened, folder):
    path, options, rows = OPENED[opened]
    x, y = gk.open(folder / path, **options)
    assert (x.chunks, y.chunks) == ((rows, (3,)), (rows,))
    start = 30 if path == "csv/1.csv" else 0
    expected = gk.gradient(P, THETA, X[start : start + sum(rows)], Y[start : start + sum(rows)])
    np.testing.assert_allclose(gk.gradient(P, THETA, x, y).compute(), expected, rtol=1e-12)


def test_features_have_the_dtype_asked_for_and_whole_numbers_stay_targets(folder):
    x, y = gk.open(folder / "parquet", target="whole", ignore=["name"], dtype="float32")
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert (x[:2].compute().dtype, y[-3:].compute().tolist()) == (np.float32, [47, 48, 49])
    x, y = gk.open(folder / "xy.npy", target=1, dtype="float32")
    assert (x.dtype, y.dtype) == (np.float32, np.float32)


def test_a_memory_map_is_read_in_blocks_and_travels_as_its_path(folder, monkeypatch):
    import pickle

    from gradkernels.scale import array_files

    monkeypatch.setattr(array_files, "BLOCK_BYTES", 480)
    x, y = gk.open(folder / "x.npy", target="y.npy")
    assert (x.chunks, y.chunks) == (((20, 20, 10), (3,)), ((20, 20, 10),))
    assert len(pickle.dumps(x)) < X.nbytes + 5000
    np.testing.assert_array_equal(x[25:45].compute(), X[25:45])


REFUSED = [
    ("parquet", {}, ValueError, "which column is to be predicted? Pass target=, one of a, y, b, c, name, whole"),
    ("parquet", {"target": "Y"}, ValueError, "there is no column 'Y'; known: a, y, b, c, name, whole"),
    ("parquet", {"target": "y"}, ValueError, "turn it into numbers, or leave it out with ignore="),
    ("parquet", {"target": "y", "features": ["d*"]}, ValueError, "there is no column 'd*'"),
    ("parquet/7.parquet", TABLE, FileNotFoundError, "there is nothing at "),
    ("csv/7*.csv", TABLE, ValueError, "is not CSV that can be read"),
    ("both", TABLE, ValueError, "has .csv and .parquet files; name those that are meant with a glob"),
    ("text.txt", TABLE, ValueError, "is no kind of file that is known; known are .parquet, .csv, .zarr, .npy, "),
    ("nowhere", TABLE, ValueError, "is no file or folder"),
    ("x.npy", {}, ValueError, "is one array; pass target=, the number of a column or the array of targets"),
    ("x.npy", {"target": 3}, ValueError, "is (50, 3); target=3 must be the number of one of its columns"),
    ("x.npy", {"target": "xy.npy"}, ValueError, "xy.npy is float64 (50, 4); targets must be numbers (50,)"),
    ("bad.npy", {"target": 0}, ValueError, "is not an NPY file of numbers that can be mapped"),
    ("rows.zarr", {}, ValueError, "has the arrays x, y, z; which are the targets? Pass target="),
    ("rows.zarr", {"target": "w"}, ValueError, "there is no array 'w'"),
    ("rows.zarr", {"target": "y"}, ValueError, "has the arrays x, y, z; name that of the features with features=[...]"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "options", "error", "says"), REFUSED)
def test_what_cannot_be_opened_is_refused_in_a_sentence(path, options, error, says, folder):
    with pytest.raises(error, match=re.escape(says)):
        gk.open(folder / path, **options)


def test_a_gap_in_a_file_is_of_a_block(folder, tmp_path):
    frame = FRAME.copy()
    frame.loc[33, "b"] = np.nan
    frame.to_parquet(tmp_path / "gap.parquet", row_group_size=20, index=False)
    x, y = gk.open(tmp_path / "gap.parquet", **TABLE)
    with pytest.raises(ValueError, match=r"^block 1 \(samples 20 to 39\): x is NaN in sample 33"):
        gk.gradient(P, THETA, x, y).compute()
