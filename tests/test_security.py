"""What SECURITY.md says: code is executed that was named as code, and nothing that was named as data is unpickled."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from measured import STEADY, changed, passes

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.names import harmless
from gradkernels.record import HEADER, append, read


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "sprung")


@pytest.mark.parametrize("name", ["kernels", "kernels.pickle", "kernels.kernels"])
def test_kernels_are_taken_from_python_alone(name, trap, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(trap))
    assert main(["run", "--kernels-from", str(path), "--out", str(tmp_path / "out.csv")]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert "ends in .py" in said
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["data.npz", "data.csv", "data.parquet"])
def test_data_are_not_unpickled(name, trap, tmp_path, capsys):
    path = tmp_path / name
    if name == "data.npz":
        np.savez(path, x=np.array([trap], dtype=object), y=np.zeros(1))
    else:
        path.write_bytes(pickle.dumps(trap))
    assert main(["estimate", "--data", str(path), "--target", "y"]) == 2
    assert "gradkernels" in capsys.readouterr().err
    assert not (tmp_path / "sprung").exists()


def test_files_larger_than_memory_are_not_unpickled(trap, tmp_path):
    pytest.importorskip("dask")
    np.save(tmp_path / "rows.npy", np.array([[trap, trap]], dtype=object))
    with pytest.raises(ValueError, match="is not an NPY file of numbers that can be mapped"):
        gk.open(tmp_path / "rows.npy", target=0)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_rows_and_sums_that_a_call_goes_on_with_are_not_unpickled(trap, tmp_path, whole):
    problem = gk.LinearRegression()
    theta, x, y = problem.draw(8, seed=0, features=2)
    over, rows, total = gk.over([(x, y)], progress=False), tmp_path / "rows.npy", tmp_path / "sum.npz"
    over.norms(problem, theta, out=rows), over.gradient(problem, theta, checkpoint=total)
    np.save(rows, np.array([trap] * 8, dtype=object)) if whole else rows.write_bytes(pickle.dumps(trap))
    np.savez(total, np.array([trap], dtype=object)) if whole else total.write_bytes(pickle.dumps(trap))
    for call in (lambda: over.norms(problem, theta, out=rows), lambda: over.gradient(problem, theta, checkpoint=total)):
        with pytest.raises(ValueError, match=r"has fewer than 8 rows|is no sum that can be read"):
            call()
    assert not (tmp_path / "sprung").exists()


def test_the_trap_is_one(trap, tmp_path):
    pickle.loads(pickle.dumps(trap)).close()
    assert (tmp_path / "sprung").exists()


EVIL = "\x1b[2K\x1b[31mnumpy\x9b1A\u202e\r.loop"


def test_nothing_in_a_name_is_obeyed_by_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [changed(row, kernel=f"{EVIL}.norms", machine=EVIL) for row in passes(STEADY)]
    Path("x.csv").write_text(HEADER, encoding="utf-8")
    append(Path("x.csv"), rows)
    for words in (
        "fastest x.csv",
        "summary x.csv",
        "summary x.csv --format json",
        "merge x.csv -o y.csv",
        "plot y.csv --out y.png",
    ):
        assert main(words.split()) == 0
        told = "".join(capsys.readouterr())
        assert harmless(told) == told, words
    assert {row.kernel for row in read("x.csv")} == {r"\x1b[2K\x1b[31mnumpy\x9b1A\u202e .loop.norms"}
    for words in (["fastest", f"{EVIL}.csv"], ["plot", "x.csv", "--out", f"{EVIL}.png"], [f"--{EVIL}"]):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert harmless(told) == told
        assert "has control characters" in told
