"""The command line: one module per command, and one place where errors become a sentence and an exit code.

Exit codes: 0 done; 1 a comparison or a proof failed; 2 bad usage or bad input.
"""

from __future__ import annotations

import sys

import click
import typer

from gradkernels.bench.cli.compare import compare
from gradkernels.bench.cli.estimate import estimate
from gradkernels.bench.cli.fastest import fastest
from gradkernels.bench.cli.import_json import import_json
from gradkernels.bench.cli.list_kernels import list_kernels
from gradkernels.bench.cli.run import run

app = typer.Typer(
    help="Race gradient kernels: the same gradient computed every way there is, proven equal, timed, chosen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(compare)
app.command()(fastest)
app.command("list")(list_kernels)
app.command()(estimate)
app.command("import")(import_json)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. Bad input is one sentence on standard error and code 2."""
    try:
        code = app(arguments, standalone_mode=False, prog_name="gradkernels")
    except click.exceptions.Abort:
        return _complain("stopped", 130)
    except click.ClickException as error:
        return _complain(error.format_message())
    except (ValueError, OSError) as error:
        return _complain(str(error))
    return code if isinstance(code, int) else 0


def _complain(sentence: str, code: int = 2) -> int:
    print(f"gradkernels: {sentence}", file=sys.stderr)
    return code
