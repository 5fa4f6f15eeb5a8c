"""What is wrong with an option's value, said as the commands say it, whichever library of options has found it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gradkernels.bench.cli.settings import where_set
from gradkernels.names import unknown

_INVALID = "Invalid value"
_CHOICES = re.compile(r"'(.*)' is not one of ('.*')\.?", re.DOTALL)
_PLAINLY = (
    (r"^Value error, ", ""),
    (r"^Input should be ", "it must be "),
    (r"^.* is not a valid integer( range)?\.?$", "it must be a whole number"),
    (r"it must be a valid integer, .*", "it must be a whole number"),
    (r"it must be greater than or equal to", "it must be at least"),
    (r"it must be less than or equal to", "it must be at most"),
    (r", unable to .*", ""),
)
"""What typer, or the library that it checks values by, says; and what is said instead."""


def usage_sentence(error: Any, words: Sequence[str], settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is wrong with what was typed.

    Args:
        error: The usage error that typer has raised.
        words: What was typed.
        settings: The values that pyproject.toml has, by command and parameter.
    """
    parameter, message = getattr(error, "param", None), str(error.format_message())
    if parameter is not None and message.startswith(_INVALID) and (option := max(parameter.opts, key=len))[:1] == "-":
        own = settings.get(words[0] if words else "", {}).get(parameter.name)
        message = _of_option(option, _typed(parameter.opts, words, own), str(error.message))
    return message + where_set(settings, words, parameter)


def _of_option(option: str, given: str, message: str) -> str:
    """Return what is wrong with the value of an option.

    Args:
        option: Its name.
        given: Its value.
        message: What was said of it.
    """
    for said, instead in _PLAINLY:
        message = re.sub(said, instead, message, flags=re.DOTALL)
    if found := _CHOICES.fullmatch(message):
        return unknown(option.lstrip("-"), found[1], re.findall(r"'([^']*)'", found[2]))
    return f"{option} {given}: {message}"


def _typed(names: Sequence[str], words: Sequence[str], own: Any) -> str:
    """Return the value of an option as it was typed last; what pyproject.toml has where it was not.

    Args:
        names: The names of the option.
        words: What was typed.
        own: Its value in pyproject.toml; None if it has none.
    """
    found = "" if own is None else str(own)
    for before, word in pairwise(["", *words]):
        name, equals, value = word.partition("=")
        if before in names:
            found = word
        elif equals and name in names:
            found = value
    return found
