"""Python run as a script, in a process that has imported the large libraries already: most of what a short one takes.

A server imports them once and computes nothing; each script is a fork of it, so that none sees what another did.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from real.stand_in import with_torchvision

IMPORT_TORCHVISION = ("transformers", "lightning")
LARGE = ("numpy", "torch", "numba", "pandas", "scipy.optimize")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(LARGE))


def output_of(source: str, folder: Path, variables: Mapping[str, str], seconds: float = 300.0) -> str:
    """Return what a source prints; one that fails fails the test, with what it said.

    Args:
        source: Python.
        folder: Where it runs.
        variables: Of its environment, beside those that are there.
        seconds: After which it is ended.
    """
    printed, said = (folder.parent / f"{folder.name}.{name}" for name in ("stdout", "stderr"))
    process = _FORKS.Process(target=_as_script, args=(source, folder, dict(variables), (printed, said)))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode == 0, f"ended with {process.exitcode}\n{printed.read_text()}\n{said.read_text()}"
    return printed.read_text()


def _as_script(source: str, folder: Path, variables: dict[str, str], outputs: tuple[Path, Path]) -> None:
    for descriptor, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(folder)
    os.environ.update(variables)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    sys.argv = ["page.py"]
    sys.modules["__main__"] = main = ModuleType("__main__")
    kept = with_torchvision() if any(f"from {name}" in source for name in IMPORT_TORCHVISION) else None
    exec(compile(source, "page.py", "exec"), main.__dict__)
    sys.stdout.flush()
    del kept
