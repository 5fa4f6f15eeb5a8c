"""The options of commands that make files of results files, or tell what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradkernels.bench.results.import_kinds import import_kinds

ImportedFiles = Annotated[
    list[Path],
    typer.Argument(help="JSON that another tool saved. A file is a pass; of pyperf each of its processes is one."),
]
ImportKind = Annotated[
    str | None,
    typer.Option("--kind", metavar="TOOL", help=f"{', '.join(import_kinds())}. [default: by what a file holds]"),
]
MergedFiles = Annotated[list[Path], typer.Argument(metavar="A.csv B.csv", help="Results files, of any schema.")]
SummarisedFiles = Annotated[list[Path], typer.Argument(metavar="A.csv", help="Results files.")]
ReportedFiles = Annotated[
    list[Path], typer.Argument(metavar="A.csv [B.csv]", help="Results files; each is compared with the one before.")
]
ReportOut = Annotated[Path, typer.Option("--out", "-o", metavar="HTML", help="The page to write.")]
MadeFile = Annotated[Path, typer.Option("--out", "-o", help="The results file to write.")]
ReplaceMade = Annotated[bool, typer.Option("--force", help="Replace --out if it is there.")]
