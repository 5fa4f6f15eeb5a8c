"""What a caller's type checker sees: results are of the library of the inputs, and the examples hold under --strict."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = {
    "numpy": ("npt.NDArray[np.float64]", "numpy.ndarray"),
    "torch": ("torch.Tensor", "torch._tensor.Tensor"),
    "jax": ("jax.Array", "jax._src.basearray.Array"),
}
DICT = "dict[str, torch._tensor.Tensor]"
CALLS = [
    "gk.gradient(p, theta, x, y)",
    "gk.per_sample(p, theta, x, y)",
    "gk.per_sample(p, theta, x, y, out=out, kernel='numpy.broadcast')",
    "gk.norms(p, theta, x, y, results='a.csv', max_bytes=10)",
    "gk.clipped_sum(p, theta, x, y, 0.5, sample_weight=y)",
    "gk.moments(p, theta, x, y).variance",
    "next(gk.per_sample_chunks(p, theta, x, y, chunk=3))[1]",
    "gk.fastest(p, 'per_sample', like=(theta, x, y))(theta, x, y, out=out)",
    "gk.fastest(p, 'norms', like=(theta, x, y), calls=3)(theta, x, y)",
    "gk.fastest(p, 'moments', like=(theta, x, y))(theta, x, y).mean",
]
FRAME_CALLS = [
    "gk.gradient(p, theta, frame, series)",
    "gk.per_sample(p, theta, frame, series)",
    "gk.norms(p, theta, frame, series, sample_weight=series)",
    "gk.clipped_sum(p, theta, frame, series, 0.5)",
    "gk.moments(p, theta, frame, series).mean",
    "next(gk.per_sample_chunks(p, theta, frame, series))[1]",
]
MODULE_CALLS = {
    "gk.gradient(m, None, t, t)": DICT,
    "gk.per_sample(m, None, {'ids': t, 'mask': None}, (t, 3))": DICT,
    "gk.norms(m, None, t, t)": "torch._tensor.Tensor",
    "gk.moments(m, None, t, t).mean": DICT,
    "gk.clipped_sum(m, dict(a=t), t, t, max_norm=0.5)": DICT,
    "next(gk.per_sample_chunks(m, None, t, t))[1]": DICT,
    "gk.fastest(m, 'clipped_sum', like=(None, t, t))(None, t, t, max_norm=2.0)": DICT,
    "gk.fastest(m, 'norms', n=5)(None, t, t)": "torch._tensor.Tensor",
}
LAZY_CALLS = {
    "gk.gradient(p, theta, lazy, lazy)": "Any",
    "gk.norms(p, theta, lazy, lazy)": "Any",
    "gk.moments(p, theta, lazy, lazy).mean": "Any",
    "gk.clipped_sum(p, theta, lazy, lazy, 0.5)": "Any",
    "gk.outer(p, theta, lazy, lazy)": "Any",
}
REFUSED = {
    "gk.gradient(p, [1.0], [[2.0]], [1.0])": "call-overload",
    "gk.norms(p, t, t, t, max_norm=1.0)": "call-overload",
    "gk.per_sample(m, None, t, t, kernel=3)": "call-overload",
}
# All of --strict for the two files; the package has one rule less.
CALLERS = """
[[tool.mypy.overrides]]
module = ["calls", "readme"]
warn_return_any = true
"""
HEAD = """
import dask.array as da
import jax
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

import gradkernels as gk

def of_module(m: gk.ModuleProblem, t: torch.Tensor, p: gk.LinearRegression) -> None:
"""


def snippets() -> dict[str, str]:
    """A statement for each line of a file that mypy is given, with what it is to say of it."""
    lines = {f"    reveal_type({call})": told for call, told in MODULE_CALLS.items()}
    lines |= {f"    {call}": code for call, code in REFUSED.items()}
    for name, (array, told) in LIBRARIES.items():
        lines[
            f"def of_{name}(p: gk.LinearRegression, theta: {array}, x: {array}, y: {array}, out: {array}) -> None:"
        ] = ""
        lines |= {f"    reveal_type({call})  # {name}": told for call in CALLS}
    array, told = LIBRARIES["numpy"]
    lines[
        f"def of_frames(p: gk.LinearRegression, theta: {array}, frame: pd.DataFrame, series: pd.Series[float]) -> None:"
    ] = ""
    lines |= {f"    reveal_type({call})": told for call in FRAME_CALLS}
    lines[f"def of_dask(p: gk.LinearRegression, theta: {array}, lazy: da.Array) -> None:"] = ""
    lines |= {f"    reveal_type({call})": told for call, told in LAZY_CALLS.items()}
    return lines


def examples(file: Path) -> str:
    """The Python of a page, as one program."""
    blocks = re.findall(r"^```python\n(.*?)^```", file.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What mypy says of both files, by file and line: in one process, with what `make types` knows of the libraries."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "calls.py").write_text(HEAD + "\n".join(snippets()) + "\n")
    (folder / "readme.py").write_text(examples(ROOT / "README.md"))
    (folder / "callers.toml").write_text((ROOT / "pyproject.toml").read_text() + CALLERS)
    command = [sys.executable, "-m", "mypy", "--config-file", "callers.toml", "--no-error-summary",
               "--cache-dir", str(ROOT / ".mypy_cache"), "calls.py", "readme.py"]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    found: dict[tuple[str, int], str] = {}
    for line in done.stdout.splitlines():
        file, number, says = line.split(":", 2)
        found[file, int(number)] = found.get((file, int(number)), "") + says
    assert found, done.stderr
    return found


def test_results_are_of_the_library_of_the_inputs_and_wrong_calls_are_refused(told):
    for number, (line, expected) in enumerate(snippets().items(), HEAD.count("\n") + 1):
        says = told.get(("calls.py", number), "")
        assert expected in says, f"{line}: {says}"
        assert bool(says) == bool(expected), f"{line}: {says}"


def test_the_examples_of_the_readme_are_typed(told):
    assert {place: says for place, says in told.items() if place[0] == "readme.py"} == {}
