"""The tools whose files are imported, found in `gradkernels.bench.results.imports` without loading any of them."""

from __future__ import annotations

import pkgutil

from gradkernels.bench.results import imports


def import_kinds() -> dict[str, str]:
    """Return the names of the tools, as `--kind` takes them, and their modules."""
    found = sorted(module.name for module in pkgutil.iter_modules(imports.__path__))
    return {name.replace("_", "-"): f"{imports.__name__}.{name}" for name in found}
