"""Where text is printed to: how wide it is, and how sentences are folded there."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import IO

from rich.console import Console

PLAIN_WIDTH = 80
"""Columns of what is no terminal, unless the variable COLUMNS says otherwise."""

INDENT = "  "


def console_for(file: IO[str] | None = None) -> Console:
    """Return a console that prints text as it is, by default to standard output.

    Args:
        file: Where to print to.
    """
    stream = file or sys.stdout
    return Console(
        file=stream,
        width=_terminal_width(stream) if stream.isatty() else plain_width(),
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
    )


def _terminal_width(stream: IO[str]) -> int | None:
    """Return the columns of a terminal; None where it does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # of a notebook, say
        return None


def plain_width() -> int:
    """Return the columns of what is no terminal."""
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else PLAIN_WIDTH


def say(console: Console, sentence: str, style: str = "", hanging: str = "") -> None:
    """Print a sentence, on a terminal folded between words; elsewhere a program gets it in one line.

    Args:
        console: Where to.
        sentence: What to say; blanks in front of it are kept.
        style: Of the text.
        hanging: What further lines begin with.
    """
    console.print(folded(sentence, console.width, hanging) if console.file.isatty() else sentence, style=style)


def folded(sentence: str, width: int, hanging: str = "") -> str:
    """Return a sentence in lines of a width, of which words that are longer stick out.

    Args:
        sentence: One or several lines of their own.
        width: In columns.
        hanging: What further lines begin with.
    """
    fold = textwrap.TextWrapper(
        width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return "\n".join("\n".join(fold.wrap(line)) for line in sentence.split("\n"))
