"""Seventeen kernels of one computation, of which two end the process that they are timed in; offered as a package."""

from __future__ import annotations

import os
from pathlib import Path

import evil

from gradkernels.kernel import declare

COUNT, ENDS_LATE, ENDS = 17, 5, 11
RUN = ["run", "--kernel", "numpy.twin*", "--quantity", "norms", "--sizes", "10", "--passes", "1", "--budget", "1s"]
RUN += ["--out", "x.csv"]


def install(folder: Path) -> str:
    """Make the kernels below discoverable; returns the PYTHONPATH that does it."""
    info = folder / "twins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: twins\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gradkernels.kernels]\ntwins = twins\n")
    return os.pathsep.join([str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


def _ends_late(problem):
    """Right on the data that it is timed with, in whatever order; ends the process on those of the proof after it."""
    compute, known = evil.right(problem), set()

    def ending(theta, x, y):
        known.add(float(x.min()))
        if len(known) > 1:
            os._exit(3)
        return compute(theta, x, y)

    return ending


def _ends(problem):
    """Ends the process while it is timed."""
    return evil.after(evil.MANY, problem, lambda *_: os._exit(3))


for _number in range(COUNT):
    _build = {ENDS_LATE: _ends_late, ENDS: _ends}.get(_number, evil.right)
    globals()[f"twin{_number:02}"] = declare(f"numpy.twin{_number:02}.norms")(_build)
