"""What a person wrote in a script, a cell or a file, on its way to the processes that measure: problems and kernels."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from gradkernels.bench.isolation.errors import describe_fault
from gradkernels.kernel import Kernel, compose
from gradkernels.quantity import QUANTITIES
from gradkernels.registry import can_have, kernels


def write_pickled(value: Any, path: Path, what: str) -> str:
    """Save a value by cloudpickle, which also takes what is defined in a script or a cell.

    Args:
        value: What to save.
        path: Where.
        what: What a message calls it.

    Returns:
        The path.

    Raises:
        ValueError: It cannot be pickled.
    """
    by = _pickler()
    try:
        path.write_bytes(by.dumps(value))
    except Exception as fault:  # classes may raise anything when they are pickled
        hint = (
            "" if by.__name__ == "cloudpickle" else "; pip install 'gradkernels[bench]', whose cloudpickle takes more"
        )
        raise ValueError(
            f"{what} cannot be sent to the processes that measure: {describe_fault(fault)}{hint}"
        ) from fault
    return str(path)


def read_pickled(path: str) -> Any:
    """Return what `write_pickled` saved."""
    return pickle.loads(Path(path).read_bytes())


def _pickler() -> ModuleType:
    try:
        import cloudpickle
    except ModuleNotFoundError:
        return pickle
    module: ModuleType = cloudpickle
    return module


def with_composed(declared: Iterable[Kernel]) -> dict[str, Kernel]:
    """Return kernels by key, those that follow from rows among them.

    Raises:
        ValueError: A key is that of a kernel which is there already.
    """
    given = {kernel.key: kernel for kernel in declared}
    if taken := sorted(given.keys() & {kernel.key for kernel in kernels()}):
        raise ValueError(f"{taken[0]} is the key of a kernel that is there already; give your own another name")
    ways = {f"{kernel.way}.{kernel.quantity.name}" for kernel in given.values()}
    composed = [
        compose(kernel, quantity)
        for kernel in given.values()
        if kernel.quantity.name == "per_sample" and not kernel.composed
        for quantity in QUANTITIES.values()
        if f"{kernel.way}.{quantity.name}" not in ways and can_have(kernel, quantity)
    ]
    return given | {kernel.key: kernel for kernel in composed}


def own_kernels(source: str) -> dict[str, Kernel]:
    """Return the kernels of a file by key: Python that declares them, or what was pickled; none for an empty name.

    Raises:
        ValueError: The file declares none, or cannot be run.
    """
    if not source:
        return {}
    return kernels_of_file(source) if source.endswith(".py") else with_composed(read_pickled(source))


def kernels_of_file(path: str) -> dict[str, Kernel]:
    """Return the kernels that a Python file declares, by key; nothing that a caller names is unpickled.

    Raises:
        ValueError: It is no Python file, declares none, or cannot be run.
    """
    if not path.endswith(".py"):
        raise ValueError(f"{path} is no Python file; name one that ends in .py")
    found = [value for value in vars(module_of(path)).values() if isinstance(value, Kernel)]
    if not found:
        raise ValueError(f"{path} declares no kernel; see gradkernels.declare")
    return with_composed(found)


class AsItIsNow(SourceFileLoader):
    """Compile what a file says now: no bytecode of an earlier text is read, and none is left beside a user's file."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled text of the file."""
        return self.source_to_code(self.get_data(self.path), self.path)


def module_of(path: str) -> ModuleType:
    """Run a Python file, once in a process, and return its names as a module.

    Raises:
        ValueError: It is not there, or raises something.
    """
    name = f"_gradkernels_file_{Path(path).resolve().as_posix()}"
    if name in sys.modules:
        return sys.modules[name]
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file; name one that ends in .py")
    spec = importlib.util.spec_from_file_location(name, path, loader=AsItIsNow(name, path))
    if not path.endswith(".py") or spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; name one that ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a caller's code may raise anything
        del sys.modules[name]
        raise ValueError(f"{path} raised {describe_fault(error)}; it must be a file that can be imported") from error
    return module
