"""numba's disk cache of a user's own problem: the file may move, be renamed or be damaged, and nothing else changes."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

MODULE = """
from dataclasses import dataclass
from gradkernels.problems.regression.scalar import ScalarRegression

@dataclass(frozen=True, kw_only=True)
class Quartic(ScalarRegression):
    family = "quartic"

    def loss_of(self, xp, eta, y):
        return (eta - y) ** 4

    def slope(self, xp, eta, y):
        return 4 * (eta - y) ** 3
"""
CALL = """
import sys
from importlib import import_module
import numpy as np
import gradkernels as gk
problem = import_module(sys.argv[1]).Quartic()
assert not gk.kernel("numba.fused.per_sample").unsupported(gk.Case(problem, "per_sample", 1))  # compiles the slope
print(gk.per_sample(problem, np.zeros(2), np.array([3.0]), np.array([-1.0])).tolist())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the modules are, and what was compiled of them."""
    return tmp_path_factory.mktemp("numba")


@pytest.fixture(scope="module")
def slope(folder):
    """The row at eta = 0, y = -1, x = 3 in a process of its own, by a module of some name."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(module):
        (folder / f"{module}.py").write_text(MODULE)
        path = os.pathsep.join([str(folder), *sys.path])
        command = [sys.executable, "-c", CALL, module]
        done = subprocess.run(
            command, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
        )
        (folder / f"{module}.py").unlink()
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_the_module_of_a_problem_may_be_renamed(slope):
    assert slope("first") == slope("second") == "[[4.0, 12.0]]"


@pytest.mark.parametrize("ending", ["nbc", "nbi"])
def test_what_cannot_be_loaded_is_compiled(slope, folder, ending):
    assert slope("first") == "[[4.0, 12.0]]"
    damaged = list((folder / "cache").rglob(f"*.{ending}"))
    assert damaged
    for path in damaged:
        # What a process wrote whose module is gone by now: numba imports it to load this.
        path.write_bytes(b"cgone_for_good\nQuartic\n.")
    assert slope("first") == "[[4.0, 12.0]]"
