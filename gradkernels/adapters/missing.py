"""What is said where a door's library is not installed."""

from __future__ import annotations


def missing(library: str, door: str) -> ImportError:
    """Return the error of a door, whose name is its extra's too, that cannot be imported without a library."""
    extra = door.replace("_", "-")
    return ImportError(f"gradkernels.adapters.{door} needs {library}: pip install 'gradkernels[{extra}]'", name=library)
