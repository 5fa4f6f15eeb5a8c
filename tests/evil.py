"""Kernels that go wrong in every way, offered to the registry of a child process as an installed package would.

`install(folder)` writes the metadata that makes this module's kernels discoverable from `folder`.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import numpy as np

from gradkernels.kernel import declare


def install(folder: Path) -> str:
    """Make the kernels below discoverable; returns the PYTHONPATH that does it."""
    info = folder / "evil-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gradkernels.kernels]\nevil = evil\n")
    return os.pathsep.join([str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


@declare("numpy.wrong.norms")
def wrong(problem):
    return lambda theta, x, y: np.zeros(len(y))


@declare("numpy.raises.norms")
def raises(problem):
    def compute(theta, x, y):
        raise RuntimeError("this kernel\nalways fails")

    return compute


@declare("numpy.segfault.norms")
def segfault(problem):
    return lambda theta, x, y: ctypes.string_at(0)


@declare("numpy.hang.norms")
def hang(problem):
    return lambda theta, x, y: time.sleep(3600)


@declare("numpy.rubbish.norms")
def rubbish(problem):
    def compute(theta, x, y):
        os.write(1, b'{"event": "outcome", "rubbish"\n')
        return 1 / 0

    return compute


@declare("numpy.corrupts.norms")
def corrupts(problem):
    def compute(theta, x, y):
        y.flags.writeable = True
        y[:] = 0
        return np.zeros(len(y))

    return compute


@declare("numpy.fickle.norms")
def fickle(problem):
    """Right at first, wrong when it has been called for a while."""
    from gradkernels.registry import kernel

    right = kernel("numpy.broadcast+.norms").build(problem)
    calls = iter(range(10**9))
    return lambda theta, x, y: right(theta, x, y) * (1 if next(calls) < 20 else 2)
