"""How the rows of any function are called: those that were raced, and those that other tools have timed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gradkernels.coordinates import Coordinates

FUNCTION = "function"
VALUE = "value"
_MOST = 2**63


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


def benchmark_names(test: str, parameters: str, values: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return how a benchmark test is recorded: the name of what is compared, that of the function, and n.

    n is the one parameter that is a whole number from 1, if there is one: then what is compared are its sizes.

    Args:
        test: As pytest calls it, with its parameters.
        parameters: The same in brackets at the end of that; empty for none.
        values: Of its parameters, by name.
    """
    plain = test.removesuffix(f"[{parameters}]")
    whole, n = sized(plain, values)
    return (test if n is None else whole), re.sub(r"\W+", "_", plain.rpartition("::")[2]).strip("_"), n or 1


def sized(name: str, parameters: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return a benchmark's name, and n: the one parameter that is a whole number from 1; None if no or several are.

    Args:
        name: Without parameters.
        parameters: By name.
    """
    sizes = [key for key, value in parameters.items() if type(value) is int and 0 < value < _MOST]
    size = parameters[sizes[0]] if len(sizes) == 1 else None
    others = [f"{key}={value}" for key, value in parameters.items() if size is None or key != sizes[0]]
    return f"{name}({', '.join(others)})" if others else name, size
