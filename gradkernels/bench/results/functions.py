"""How the rows of any function are called: those that were raced, and those that other tools have timed."""

from __future__ import annotations

from gradkernels.coordinates import Coordinates

FUNCTION = "function"
VALUE = "value"


def function_key(name: str) -> str:
    """Return the key under which a function is recorded: `function.NAME.value`."""
    return f"{FUNCTION}.{name}.{VALUE}"


def function_case(name: str, n: int, threads: int) -> Coordinates:
    """Return the coordinates of functions whose problem is `function:NAME`.

    Args:
        name: Of what is compared.
        n: Size of the input.
        threads: That a function may use.
    """
    return Coordinates(f"{FUNCTION}:{name}", VALUE, n, 1, "object", "C", "cpu", threads)
