"""The command line: one module per command, and one place where errors become a sentence and an exit code.

A command reads its options, calls what does the work in another room, and prints what a report makes of it. It raises
ValueError for what a person can mend; `main` turns that into one sentence, never a traceback.

Exit codes of commands that compare: 0 done; 1 something is too slow; 2 bad usage or bad input; 3 undecided, where that
was asked to fail; 4 a proof failed; 5 contaminated, or nothing was measured (`gradkernels.bench.compare.exit_codes`).
Of those that do not: 0 done; 1 a proof failed; 2 as above. 130 stopped.

`app` puts the commands together: `run`, `compare`, `ab`, `fastest`, `list_kernels`, `estimate`, `import_json` and
`doctor`. Each option is defined once in `options`, and `parse` turns what people type into values.
`run_plan` makes the plan of a run from them, `run_progress` shows how far it is, `files` refuses what cannot be
written before anything is computed.
"""

from __future__ import annotations

import sys
from typing import cast


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. Bad input is one sentence on standard error and code 2."""
    import typer

    from gradkernels.bench.cli.app import app

    # Typer carries a click of its own since 0.17; the parents of its public error are the same in either.
    usage_error = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
    try:
        code = app(_or_help(arguments), standalone_mode=False, prog_name="gradkernels")
    except typer.Abort:
        return _complain("stopped", 130)
    except usage_error as error:
        return _complain(error.format_message())
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        return _complain(str(error))
    return code if isinstance(code, int) else 0


def _or_help(arguments: list[str] | None) -> list[str]:
    return (sys.argv[1:] if arguments is None else arguments) or ["--help"]


def _complain(sentence: str, code: int = 2) -> int:
    print(f"gradkernels: {sentence}", file=sys.stderr)
    return code
