"""The options of pictures: those of `gradkernels plot`, and of the one that `gradkernels run` draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradkernels.bench.report.pictures.content import PictureKind

PlottedFiles = Annotated[list[Path], typer.Argument(help="Results files, or the CSV of an estimate.")]
PlotOut = Annotated[Path, typer.Option("--out", "-o", help="The picture: .png, .svg or .pdf.")]
PlotKind = Annotated[
    PictureKind | None,
    typer.Option("--kind", help="What to show. [default: time, and of an estimate its picture]", show_default=False),
]
RunPictureKind = Annotated[
    PictureKind | None, typer.Option("--kind", help="What the picture shows. [default: time]", show_default=False)
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="The way that others are compared with, for speed and break-even. [default: torch.vmap if it is there]",
    ),
]
PlotForce = Annotated[bool, typer.Option("--force", help="Replace --out if it is there.")]
