"""Names that people type: taken apart, looked up, and refused with what was probably meant."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

DATA_FILES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".feather", ".npz", ".xlsx")
"""What files of data end in; `gradkernels.problems.data.files` has their readers."""

_CONTROLS = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor of a terminal, colours or turns round what it shows; line breaks and tabs are text."""

OptionValue = bool | int | float | str | None


@lru_cache(maxsize=64)
def dtype_name(dtype: Any) -> str:
    """Return `float64`, `float32`, ... of a dtype, whatever its library; numpy takes microseconds to spell one out."""
    return str(dtype).removeprefix("torch.")


def pick(table: dict[str, Any], name: str, kind: str) -> Any:
    """Return `table[name]`.

    Args:
        table: Everything there is, by name.
        name: As a person wrote it.
        kind: What it names, for the message: `kernel`.

    Raises:
        ValueError: There is no such name; the message lists near ones.
    """
    if name in table:
        return table[name]
    raise ValueError(unknown(kind, name, table))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence that refuses a name: with near names, or with all of them if none is near.

    Args:
        kind: What it should name: `kernel`.
        name: As a person wrote it.
        known: The names that there are.
    """
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"known: {', '.join(known)}" if known else "there are none"
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    return f"there is no {kind} {name!r}; {hint}"


def harmless(text: str) -> str:
    """Return a text from elsewhere with its control characters written as escapes, so that no terminal obeys them."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def counted(number: int, noun: str) -> str:
    """Return `1 row`, `1,000 rows`, `2 checks passed` or `2 passes`.

    Args:
        number: Of things.
        noun: One of them, in the singular.
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun: `rows`, `passes`."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun}s"


def split_names(text: str) -> list[str]:
    """Return the names in `a,b(c=1,d=2),e[f=3,g=4]`, at least one; commas within brackets belong to a name.

    Raises:
        ValueError: There is none.
    """
    found = [part.strip() for part in re.split(r",(?![^(]*\)|[^\[]*\])", text) if part.strip()]
    if not found:
        raise ValueError(f"{text!r} names nothing; write names separated by commas")
    return found


def family_of(text: str) -> str:
    """Return `huber` of `huber(delta=2)`."""
    return text.partition("(")[0].strip()


def options_of(text: str) -> dict[str, OptionValue]:
    """Return the options in `huber(delta=2, l2=1e-3)` by name; values are read, never evaluated.

    Raises:
        ValueError: They are not written like that.
    """
    _, bracket, settings = text.partition("(")
    try:
        call = ast.parse(f"f({settings}" if bracket else "f()", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise SyntaxError
        given = {str(option.arg): ast.literal_eval(option.value) for option in call.keywords}
        if not all(isinstance(value, OptionValue) for value in given.values()):
            raise SyntaxError
    except (SyntaxError, ValueError):
        raise ValueError(
            f"{text!r}: options are written as in huber(delta=2), with numbers or True and False"
        ) from None
    return given
