"""What `ab` needs of another revision of the library: seven modules, and of each no more than the names here."""

import ast
from pathlib import Path

import pytest

import gradkernels
from gradkernels.bench.ab.client import Side, worker_on
from gradkernels.bench.ab.messages import KernelsListed, ListKernels

PACKAGE = Path(gradkernels.__file__).parent
NEEDED = {
    "gradkernels.backend": {"BACKENDS", "Array"},
    "gradkernels.case": {"Case", "Inputs"},
    "gradkernels.check": {"Disagreement", "prove"},
    "gradkernels.kernel": {"Compute", "Kernel"},
    "gradkernels.problems": {"REGRESSIONS", "Problem", "Weighted"},
    "gradkernels.registry": {"kernel", "kernels"},
    "gradkernels.tree": {"each", "leaves"},
}
# An older library, as little of one as it can be: `registry.kernels` finds no kernel.
BODIES = {
    "kernels": "def kernels():\n    return ()\n",
    "REGRESSIONS": "REGRESSIONS = {}\n",
    "BACKENDS": "BACKENDS = {}\n",
}


def imported(module):
    """Yield what a module takes from this package: the other module and the name, None for all of it."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gradkernels":
            yield from ((node.module, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, None) for name in node.names if name.name.partition(".")[0] == "gradkernels")


def needed(module, seen):
    """Collect what a module of the harness and those behind it take from the library.

    The harness is not imported as a package, so that its `__init__` counts for nothing; those below it do.
    """
    found = {}
    for source, name in imported(module):
        inner = PACKAGE.joinpath(*source.split(".")[1:], f"{name}.py").exists()
        target = f"{source}.{name}" if inner else source
        if not target.startswith("gradkernels.bench."):
            found.setdefault(source, set()).add(name)
            continue
        packages = (".".join(target.split(".")[:depth]) for depth in range(3, target.count(".") + 2))
        for each in {target, *packages} - seen:
            seen.add(each)
            for where, names in needed(each, seen).items():
                found.setdefault(where, set()).update(names)
    return found


def test_the_worker_takes_seven_modules_of_the_library_and_these_names():
    assert needed("gradkernels.bench.ab.worker", {"gradkernels.bench.ab.worker", "gradkernels.bench.ab"}) == NEEDED


@pytest.mark.parametrize("without", [None, ("gradkernels.tree", "leaves")])
def test_the_worker_runs_on_a_library_that_has_these_names_alone(tmp_path, without):
    (tmp_path / "gradkernels").mkdir()
    (tmp_path / "gradkernels" / "__init__.py").touch()
    for module, names in NEEDED.items():
        there = sorted(name for name in names if (module, name) != without)
        text = "".join(BODIES.get(name, f"class {name}(Exception):\n    pass\n") for name in there)
        (tmp_path / "gradkernels" / f"{module.rpartition('.')[2]}.py").write_text(text)
    with worker_on(Side("old", tmp_path)) as worker:
        worker.send(ListKernels(str(tmp_path), ("norms",)))
        if without is None:
            assert worker.require(KernelsListed) == KernelsListed(())
        else:
            with pytest.raises(ValueError, match="old cannot take part: .*cannot import name 'leaves'"):
                worker.require(KernelsListed)
