"""The options that say which data are read, and how."""

from __future__ import annotations

from typing import Annotated

import typer

from gradkernels.coordinates import DATA_SETS
from gradkernels.names import DATA_FILES

_SETS = f"{', '.join(DATA_SETS)}, or a file ({', '.join(DATA_FILES)})"

DataName = Annotated[str | None, typer.Option("--data", help=f"{_SETS}; default synthetic.")]
StudiedData = Annotated[str, typer.Option(help=f"{_SETS}.")]
TargetColumn = Annotated[str | None, typer.Option("--target", help="The column of the file to predict.")]
FeatureColumns = Annotated[
    str | None,
    typer.Option(
        "--features-from", metavar="COLUMNS", help="Names or globs of the features among columns. [default: all]"
    ),
]
IgnoredColumns = Annotated[
    str | None, typer.Option("--ignore", metavar="COLUMNS", help="Names or globs of columns to leave out: id,'note*'.")
]
ColumnSign = Annotated[
    str | None,
    typer.Option("--sep", metavar="SIGN", help="What stands between columns of text: ';', tab. [default: as in .csv]"),
]
DropNa = Annotated[bool, typer.Option("--drop-na", help="Leave out rows with missing values instead of refusing.")]
Resample = Annotated[
    bool, typer.Option("--resample", help="Draw with replacement where a size is larger than the data.")
]
