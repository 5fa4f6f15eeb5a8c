"""Options that several commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

Problem = Annotated[
    str, typer.Option("--problem", help="linear, or package.module:factory of a function that returns a Problem.")
]
NoIntercept = Annotated[bool, typer.Option("--no-intercept", help="A regression without an intercept.")]
Quantity = Annotated[str, typer.Option("--quantity", help="Names separated by commas, or all.")]
Kernels = Annotated[list[str] | None, typer.Option("--kernel", help="Keep kernels that match, for instance 'numpy.*'.")]
Data = Annotated[
    str | None, typer.Option("--data", help="notebook, diabetes, or a .csv, .parquet or .npz file; default synthetic.")
]
Target = Annotated[str | None, typer.Option("--target", help="The column of the file to predict.")]
DropNa = Annotated[bool, typer.Option("--drop-na", help="Leave out rows with missing values instead of refusing.")]


def import_from_here() -> None:
    """Let `package.module:factory` name a module of the current folder, as `python -m` does."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


def writable(path: Path, keep: bool) -> Path:
    """`path`, if a file can be written there; made sure of before anything is computed.

    Raises:
        ValueError: It is there already and must be kept, or it is a folder.
        OSError: The folder cannot be written to.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    if path.exists() and keep:
        raise ValueError(
            f"{path} is there already; go on with --resume, replace it with --force, or name another --out"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PermissionError(f"{path} cannot be written to; name another --out")
    return path
