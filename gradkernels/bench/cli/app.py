"""The commands, put together: a line for each, and the options of all of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gradkernels import __version__
from gradkernels.bench.cli.lazy import HELP, LazyCommand

RUN_CODES = (
    "Exit codes: 0 done; 1 a proof failed; 2 bad usage or bad input, or no room for the results; 130 stopped by Ctrl-C."
)
COMMANDS = (
    LazyCommand("run", "run:run", "Prove and time every kernel, print the winners and draw them.", RUN_CODES),
    LazyCommand("fastest", "fastest:fastest", "Say which kernel wins where, by how much, and why not others."),
    LazyCommand("compare", "compare:compare", "Say what is slower, faster or the same in other results."),
    LazyCommand("ab", "ab:ab", "Say the same of two revisions of the code, timed in turns now."),
    LazyCommand("summary", "summary:summary", "Print a row for each case and kernel, over all passes."),
    LazyCommand("merge", "merge:merge", "Make one results file of several, every measurement once."),
    LazyCommand("plot", "plot:plot", "Draw what results files say."),
    LazyCommand("report", "report:report", "Write one HTML page of results files, for any browser."),
    LazyCommand("audit", "audit:audit", "Prove per-sample gradients of another library or of your own code."),
    LazyCommand("list", "list_kernels:list_kernels", "Show every kernel, and why some cannot be used here."),
    LazyCommand("estimate", "estimate:estimate", "Show how well mini-batches estimate the gradient."),
    LazyCommand("import", "import_json:import_json", "Turn what other tools saved into a results file."),
    LazyCommand("doctor", "doctor:doctor", "Say what timing on this machine is worth, and what to do."),
)
"""In the order of the help; what each does in one line of a terminal of 80 columns."""


class Commands(TyperGroup):
    """The group of `COMMANDS`; takes what typer gives to any group."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"commands": {str(command.name): command for command in COMMANDS}})

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the group, flags that nobody gave as False: to make a bool of None loads pydantic."""
        options = super().get_params(ctx)
        for option in options:
            option.default = option.default or False
        return options


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gradkernels {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version.", show_default=False)
]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)


@app.callback()
def gradkernels(version: Version = False) -> None:
    """Race gradient kernels: the same gradient computed every way there is, proven equal, timed, chosen."""
