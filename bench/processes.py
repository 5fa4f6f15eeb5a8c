"""What another process prints, row by row; each figure that is no comparison of kernels gets a fresh one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gradkernels.bench.isolation.environment import child_environment, memory_environment


def rows(script, *arguments, memory=False):
    """Rows, one JSON object a line, that a script of this folder prints, on one thread; memory says that it weighs."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    variables = child_environment(1) | (memory_environment() if memory else {})
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            yield json.loads(line)
    assert child.returncode == 0, " ".join((script, *arguments))


def short(value):
    """A float with four digits, as the CSV files have it."""
    return f"{value:.4g}" if isinstance(value, float) else value
