"""Libraries that reading a kind of file needs, loaded when one is read."""

from __future__ import annotations

import importlib
from types import ModuleType


def needs(module: str, package: str, what: str) -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Args:
        module: Name to import.
        package: Its distribution.
        what: For which it is needed, for the message.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{what} needs {package}: pip install 'gradkernels[data]'") from None


def reason(message: str) -> str:
    """Return the first sentence of a library's message, as the end of one of ours."""
    lines = message.removeprefix("Error tokenizing data. C error: ").strip().splitlines() or ["damaged"]
    return lines[0].partition(". ")[0].rstrip(".")
