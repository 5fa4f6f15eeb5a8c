"""What the architecture says that a change touches: a copy of the package, the change, and see it work.

A kernel, a quantity and a problem are added by the pages that tell how (tests/docs/test_commands.py).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from measured import STEADY, passes, scaled

from gradkernels import record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, and what runs Python on it."""
    shutil.copytree(ROOT / "gradkernels", tmp_path / "gradkernels", ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return tmp_path, run


def insert(path, after, line):
    """Put a line behind the one line that ends with `after`."""
    text = path.read_text(encoding="utf-8")
    assert text.count(after + "\n") == 1, after
    path.write_text(text.replace(after + "\n", f"{after}\n{line}\n"), encoding="utf-8")


def test_a_report_format_is_a_file_its_name_and_its_function_in_the_command(copy):
    folder, run = copy
    bench = folder / "gradkernels" / "bench"
    (bench / "report" / "comparison_list.py").write_text(
        "def listed(comparison):\n    return ''.join(f'* {row.kernel}: {row.verdict}\\n' for row in comparison.rows)\n"
    )
    insert(bench / "cli" / "options.py", '    json = "json"', '    listed = "list"')
    compare = bench / "cli" / "commands" / "compare.py"
    insert(compare, "from __future__ import annotations", "from gradkernels.bench.report.comparison_list import listed")
    text = compare.read_text()
    assert text.count("Format.json: as_json}") == 1
    compare.write_text(text.replace("Format.json: as_json}", "Format.json: as_json, Format.listed: listed}"))
    for name, times in (("a.csv", STEADY), ("b.csv", scaled(STEADY, 2.0))):
        (folder / name).write_text(record.HEADER)
        record.append(folder / name, passes(times, kernel="numpy.matmul.gradient"))
    assert (
        run("-m", "gradkernels", "compare", "a.csv", "b.csv", "--format", "list") == "* numpy.matmul.gradient: slower\n"
    )


LIBRARY = """
import numpy as np

class Boxed:
    device = "cpu"

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __len__(self):
        return len(self.array)
"""
ROW = """
import importlib
import numpy as np
from gradkernels.backend.array_library import ArrayLibrary

BOXES = ArrayLibrary(
    "boxes",
    "Boxed",
    put=lambda array, device: importlib.import_module("boxes").Boxed(array),
    get=lambda boxed: np.array(boxed.array),
)
"""
USE = """
import boxes, numpy as np, gradkernels as gk
theta, x, y = map(boxes.Boxed, (np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([0.0, 5.0])))
rows = gk.per_sample(gk.LinearRegression(), theta, x, y, kernel="numpy.broadcast")
print(type(rows).__name__, rows.array.tolist())
"""


def test_a_library_with_arrays_of_its_own_is_a_row_of_the_table(copy):
    folder, run = copy
    (folder / "boxes.py").write_text(LIBRARY)
    (folder / "gradkernels" / "backend" / "boxed_arrays.py").write_text(ROW)
    backend = folder / "gradkernels" / "backend" / "libraries.py"
    insert(
        backend,
        "from gradkernels.backend.numpy_arrays import NUMPY",
        "from gradkernels.backend.boxed_arrays import BOXES",
    )
    insert(backend, '        Backend("numba", 2, NUMPY),', '        Backend("boxes", 9, BOXES),')
    # eta is 1 and 3, the residuals 1 and -2, the slopes 2 and -4.
    assert run("-c", USE) == "Boxed [[2.0, 0.0], [-4.0, -4.0]]\n"
