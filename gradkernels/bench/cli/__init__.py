"""The command line: one module per command, and one place where errors become a sentence and an exit code.

A command reads its options, calls what does the work in another room, and prints what a report makes of it. It raises
ValueError for what a person can mend; `main` turns that into one sentence, never a traceback.

Exit codes of commands that compare: 0 done; 1 something is too slow; 2 bad usage or bad input; 3 undecided, where that
was asked to fail; 4 a proof failed; 5 contaminated, or nothing was measured; 6 something is missing, where that was
asked to fail (`gradkernels.bench.compare.exit_codes`).
Of those that do not: 0 done; 1 a proof failed; 2 as above. 130 stopped, 141 not read to the end by the next in a pipe.

`app` lists what `commands` has, a module each; `lazy` loads such a module when its command is called. Each option is
defined once in `options`, `data_options`, `file_options` or `plot_options`; `settings` has what pyproject.toml says of
them, `parse` turns what people type into values, and `usage` says what is wrong with it.
`run_plan` makes the plans of a run from them, `run_pace` its passes and limits, `table_options` reads the data,
`run_progress` shows how far it is, and `files` refuses what cannot be written before anything is computed.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from errno import ENOENT
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from gradkernels.bench.cli.settings import settings_here, with_home_folder
from gradkernels.bench.cli.usage import usage_sentence
from gradkernels.bench.report.terminal.charset import spell_out
from gradkernels.names import harmless

if TYPE_CHECKING:
    import typer

UNREAD = 141  # what a shell reports of a process that a closed pipe has ended


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. Bad input is one sentence on standard error and code 2."""
    import typer

    from gradkernels.bench.cli.app import app

    _open_closed_streams()
    # Typer carries a click of its own since 0.17; the parents of its public error are the same in either.
    usage_error = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
    try:
        command, words = _built(app), with_home_folder(_or_help(arguments))
        _require_values(words)
        settings = settings_here(command.commands, words)
        code = command(words, standalone_mode=False, prog_name="gradkernels", default_map=settings)
    except typer.Abort as error:
        if isinstance(error.__cause__, EOFError):  # typer takes it for the end of what a person types
            return _complain(f"a compiled library or another file is cut off: {error.__cause__}; install it again")
        return _complain("stopped", 130)
    except usage_error as error:
        return _complain(usage_sentence(error, words, settings))
    except OSError as error:
        return _complain(_of_the_system(error))
    except RuntimeError as error:  # as pathlib calls it before Python 3.13
        if not str(error).startswith("Symlink loop"):
            raise
        return _complain(str(error))
    except ValueError as error:
        return _complain(str(error))
    except ModuleNotFoundError as missing:
        return _complain(missing_extra(missing))
    except MemoryError as error:
        return _complain(f"out of memory: {error or 'nothing is left'}; ask for fewer samples or features")
    except SystemExit as end:  # with 1 typer and rich end where a pipe is closed, with others who was told to stop
        return end.code if isinstance(end.code, int) and end.code != 1 else UNREAD
    return code if isinstance(code, int) else 0


@cache
def _built(app: typer.Typer) -> Any:
    """Return what parses and calls the commands: made of every option of each, it costs more than parsing."""
    import typer

    return typer.main.get_command(app)


def _open_closed_streams() -> None:
    """Have what a caller has closed swallow what is printed: a results file would get its number, and the text."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    sys.stdout, sys.stderr = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        spell_out(stream)


def _or_help(arguments: list[str] | None) -> list[str]:
    return (sys.argv[1:] if arguments is None else arguments) or ["--help"]


def _require_values(words: list[str]) -> None:
    """Raise a ValueError for what is empty, as a shell makes it of a variable that is not set, and for odd names."""
    for word in words:
        if harmless(word) != word:  # it would be printed with the results
            raise ValueError(f"{word}: has control characters; rename what is called so")
    for before, word in pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if not word or (equals and not value and option.startswith("--")):
            name = option or (before if before.startswith("--") else "an argument")
            raise ValueError(f"{name} is empty; give it a value or leave it out")


def _of_the_system(error: OSError) -> str:
    """Return what the system could not do as a sentence, and with what."""
    if error.errno == ENOENT and error.filename is None:  # of os.getcwd; a sentence of our own has no number
        return "the folder that this was started in is gone; go to another"
    # Without a name it is standard output, such as a full disk that it is sent to.
    return f"{error.filename or 'the output'}: {error.strerror}" if error.strerror else str(error)


def _complain(sentence: str, code: int = 2) -> int:
    with suppress(OSError):  # the code must be right also where nothing can be printed
        print(f"gradkernels: {harmless(sentence)}", file=sys.stderr)
    return code


def missing_extra(missing: ModuleNotFoundError, what: str = "this command") -> str:
    """Return what to install for something; raises the error again where a module of gradkernels itself is missing.

    Args:
        missing: What the import raised.
        what: For which it is needed.
    """
    if missing.name is None or missing.name.partition(".")[0] == "gradkernels":
        raise missing
    return f"{what} needs {missing.name}: pip install 'gradkernels[bench]'"
