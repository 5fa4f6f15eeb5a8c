"""The commands, put together."""

from __future__ import annotations

import typer

from gradkernels.bench.cli.commands.ab import ab
from gradkernels.bench.cli.commands.compare import compare
from gradkernels.bench.cli.commands.doctor import doctor
from gradkernels.bench.cli.commands.estimate import estimate
from gradkernels.bench.cli.commands.fastest import fastest
from gradkernels.bench.cli.commands.import_json import import_json
from gradkernels.bench.cli.commands.list_kernels import list_kernels
from gradkernels.bench.cli.commands.merge import merge
from gradkernels.bench.cli.commands.plot import plot
from gradkernels.bench.cli.commands.run import run
from gradkernels.bench.cli.commands.summary import summary

app = typer.Typer(
    help="Race gradient kernels: the same gradient computed every way there is, proven equal, timed, chosen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(compare)
app.command()(ab)
app.command()(fastest)
app.command("list")(list_kernels)
app.command()(plot)
app.command()(estimate)
app.command()(summary)
app.command()(merge)
app.command("import")(import_json)
app.command()(doctor)
