"""Where the modules of a worker come from: only the revision's own can be compared."""

from __future__ import annotations

import sys
from pathlib import Path

HARNESS_PACKAGE = "gradkernels.bench"


def packages(root: Path) -> set[str]:
    """Return the names of the packages and modules in the folder that a revision is imported from."""
    return {path.stem for path in root.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


def require_origin(root: Path, some: bool = True) -> None:
    """Raise unless every loaded module of the repository's packages is the revision's own.

    Args:
        root: Folder that the revision is imported from.
        some: Whether at least one must be loaded.

    Raises:
        ImportError: One is from elsewhere, or none is there.
    """
    own = packages(root)
    files = {
        name: Path(file).resolve()
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in own
        and not f"{name}.".startswith(f"{HARNESS_PACKAGE}.")
        and (file := getattr(module, "__file__", None))
    }
    if some and not files:
        raise ImportError(f"nothing in {root} was imported; does it declare kernels (group gradkernels.kernels)?")
    for name, file in files.items():
        if not file.is_relative_to(root.resolve()):
            raise ImportError(f"{name} was imported from {file}, not from {root}; no comparison would be one")
