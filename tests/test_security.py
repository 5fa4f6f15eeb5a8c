"""What SECURITY.md says: code is executed that was named as code, and nothing that was named as data is unpickled."""

import pickle

import numpy as np
import pytest

from gradkernels.bench.cli import main


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


def test_the_trap_is_one(trap, tmp_path):
    pickle.loads(pickle.dumps(trap)).close()
    assert (tmp_path / "sprung").exists()
