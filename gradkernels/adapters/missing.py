"""What is said where a door's library is not installed, or cannot be imported."""

from __future__ import annotations


def missing(library: str, door: str, error: ImportError) -> ImportError:
    """Return the error of a door, whose name is its extra's and its module's too, whose library was not imported.

    Args:
        library: Name to install it by.
        door: Its name here.
        error: What the import raised.
    """
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] != door:
        return ImportError(f"gradkernels.adapters.{door} found {library}, whose import failed: {error}", name=library)
    extra = door.replace("_", "-")
    return ImportError(f"gradkernels.adapters.{door} needs {library}: pip install 'gradkernels[{extra}]'", name=library)
