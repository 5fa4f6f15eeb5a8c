"""What torch.compile needs of a machine and of a case."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from gradkernels.case import Case


def refuses(case: Case) -> list[str]:
    """Return why torch.compile cannot do a case: no compiler, no headers, or random numbers that it draws otherwise."""
    reasons = _missing(case.device)
    if case.problem.randomness != "error":
        reasons.append(f"torch.compile draws other random numbers than randomness={case.problem.randomness!r} asks for")
    return reasons


def _missing(device: str) -> list[str]:
    if device.startswith("cuda"):
        return [] if find_spec("triton") else ["torch.compile needs triton for a GPU: pip install triton"]
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    reasons = []
    if not shutil.which(compiler):
        reasons.append(f"torch.compile needs a C++ compiler and finds no {compiler}: install one, or name it in CXX")
    if not (header := Path(sysconfig.get_path("include"), "Python.h")).exists():
        reasons.append(f"torch.compile needs {header}: install Python's headers (python3-dev)")
    return reasons
