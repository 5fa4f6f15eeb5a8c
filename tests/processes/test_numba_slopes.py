"""Slopes of a user's own problem are compiled once for all processes, and anew when anything in them changes."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

MODULE = """
from dataclasses import dataclass
from gradkernels.problems.regression.scalar import ScalarRegression

FACTOR = {factor}

@dataclass(frozen=True, kw_only=True)
class Mine(ScalarRegression):
    scale: float = 1.0
    family = "mine"

    def loss_of(self, xp, eta, y):
        return FACTOR * self.scale * (eta - y) ** 2 / 2 {more}

    def slope(self, xp, eta, y):
        return FACTOR * self.scale * (eta - y) {more}
"""
CALL = """
import sys
import numpy as np
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    import gradkernels as gk
    from mine import Mine
    compute = gk.kernel("numba.fused.per_sample").build(Mine(scale=float(sys.argv[1])))
    (row,) = compute(np.zeros(2), np.array([0.0]), np.array([-1.0]))
print(row[0], sum(1 for _, found in recorder.buffer if found.is_start))
"""


@pytest.fixture
def call(tmp_path):
    """The slope at eta = 0, y = -1 in a process of its own, and the functions that it had to compile."""

    def run(scale=1.0, factor="1", more=""):
        (tmp_path / "mine.py").write_text(MODULE.format(factor=factor, more=more))
        path = os.pathsep.join([str(tmp_path), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [sys.executable, "-c", CALL, str(scale)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
        slope, compiled = done.stdout.split()
        return float(slope), int(compiled)

    return run


def test_a_second_process_compiles_nothing_and_a_changed_slope_is_seen(call):
    assert call()[0] == 1
    assert call() == (1, 0)
    for settings, value in (({"scale": 3.0}, 3), ({"factor": "5"}, 5), ({"more": "+ 1"}, 2)):
        slope, compiled = call(**settings)
        assert (slope, compiled > 0) == (value, True)
        assert call(**settings) == (value, 0)
