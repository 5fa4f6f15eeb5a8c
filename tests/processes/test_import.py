"""Importing stays light, and public names stay what they are although modules are called the same."""

import re
import subprocess
import sys

import pytest

import gradkernels as gk

HEAVY = ("torch", "jax", "numba", "pandas", "matplotlib", "scipy", "typer", "rich", "sklearn", "pyarrow", "plotly")
HEAVY += ("dask", "distributed")
CALLABLES = ("kernel", "kernels", "check", "fastest", "declare")
CALLABLES += ("gradient", "per_sample", "norms", "moments", "clipped_sum")


def python(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


CASE = "import gradkernels as gk; p = gk.LinearRegression(); case = gk.Case(p, 'norms', 5); "
LOADED = f"\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))"


LIGHT = [
    "import gradkernels",
    "import gradkernels as gk; gk.kernels()",
    CASE,
    CASE + "gk.kernel('torch.vmap+.norms').unsupported(case)",
    CASE + "gk.kernel('jax.vmap+.norms').unsupported(case)",
    CASE + "gk.check('numpy.broadcast+.norms', case)",
    CASE + "gk.norms(p, *case.draw(), kernel='numpy.broadcast')",
    "from gradkernels.fastest import per_sample",
    "import gradkernels.record",
]


@pytest.fixture(scope="module")
def loaded_after():
    """What is loaded after each of them, in one process: what one has loaded, none behind it can hide."""
    return dict(zip(LIGHT, python("\n".join(code + LOADED for code in LIGHT)).splitlines(), strict=True))


@pytest.mark.parametrize("code", LIGHT)
def test_nothing_heavy_is_loaded(code, loaded_after):
    assert loaded_after[code].split() == []


FIRST_CALLS = """
import gradkernels as gk
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
problem, x, y = gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.randn(4, 1, 4, 4), torch.arange(4) % 3
for quantity in ("per_sample", "norms", "clipped_sum", "moments", "gradient"):
    for _ in range(12):
        getattr(gk, quantity)(problem, None, x, y)
"""
PEERS = ("opacus", "backpack", "jax", "sklearn", "statsmodels", "numba")


def test_no_other_library_is_loaded_for_a_module_of_which_nothing_was_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADKERNELS_WISDOM", str(tmp_path / "wisdom.json"))
    assert python(FIRST_CALLS + f"import sys; print(*(sys.modules.keys() & {set(PEERS)}))").split() == []


def test_a_command_begins_without_what_only_some_of_them_compute_with():
    late = ("scipy", "pandas", "matplotlib", "torch")
    loaded = f"\nimport sys; print(*(name for name in {late} if name in sys.modules))"
    every = "from gradkernels.bench.cli.app import COMMANDS\nfor command in COMMANDS: command.whole"
    assert python(every + loaded).split() == []


def test_the_public_names_are_there():
    assert set(CALLABLES) < set(gk.__all__)
    assert set(gk.__all__) <= set(dir(gk))
    assert all(callable(getattr(gk, name)) for name in gk.__all__)


IMPORT_ALL = """
import importlib, pkgutil
import gradkernels
for found in pkgutil.walk_packages(gradkernels.__path__, "gradkernels."):
    if not found.name.endswith(("__main__", "bench.worker")) and ".adapters." not in found.name:
        importlib.import_module(found.name)
import gradkernels as gk
"""
STILL = f"print(*(name for name in {CALLABLES} if type(getattr(gk, name)).__name__ != 'function'))"


@pytest.mark.parametrize(
    "code",
    [
        IMPORT_ALL,
        "import gradkernels.kernels, gradkernels.kernel, gradkernels.check, gradkernels.fastest, gradkernels as gk\n",
        "import gradkernels.fastest\nimport gradkernels as gk\n",
        "from gradkernels.kernels import numpy_loop\nimport gradkernels as gk\n",
        "from gradkernels.kernel import declare\nimport gradkernels as gk\ngk.kernels()\nimport gradkernels.kernels\n",
    ],
)
def test_functions_stay_functions_although_modules_have_their_names(code):
    assert python(code + STILL).split() == []


@pytest.mark.parametrize("name", ["kernel", "kernels", "check", "fastest"])
def test_modules_of_the_same_names_stay_importable(name):
    code = (
        f"import importlib, gradkernels as gk; gk.{name}; print(importlib.import_module('gradkernels.{name}').__name__)"
    )
    assert python(code).strip() == f"gradkernels.{name}"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gradkernels' has no attribute 'gradients'"):
        _ = gk.gradients


def test_switches_of_the_process_stay_as_they_are():
    code = """
import os, random, jax, numpy, torch

def switches():
    seeds = random.getstate(), numpy.random.get_state()[1].tolist(), torch.initial_seed()
    modes = numpy.geterr(), torch.is_grad_enabled(), torch.get_default_dtype(), jax.config.jax_enable_x64
    # torch's compiler notes its cache folder, and an address for what it compiles, in the environment by itself, and
    # polars, which statsmodels loads where it is installed, the settings of its allocator.
    noted = "TORCHINDUCTOR_", "_RJEM_MALLOC_CONF"
    environment = {name: value for name, value in os.environ.items() if not any(one in name for one in noted)}
    return environment, seeds, modes, torch.get_num_threads()

before = switches()
import gradkernels as gk
p = gk.LinearRegression()
for kernel in gk.kernels(p, "per_sample"):
    case = gk.Case(p, "per_sample", 5, "float64" if kernel.backend.name == "statsmodels" else "float32")
    gk.check(kernel, case)
gk.gradient(p, *p.draw(5, 0))
assert switches() == before
"""
    python(code)


def test_the_winners_are_imports_from_the_module_that_is_named_after_them():
    from gradkernels import fastest as found
    from gradkernels.fastest import clipped_sum, fastest, gradient, moments, norms, per_sample

    assert fastest is found
    for function in (clipped_sum, fastest, gradient, moments, norms, per_sample):
        assert getattr(gk, function.__name__) is function


def test_a_function_of_the_harness_without_what_it_needs_says_so():
    script = "import sys\nsys.modules['typer'] = None\nimport gradkernels as gk\ngk.run"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.endswith("ModuleNotFoundError: gk.run needs typer: pip install 'gradkernels[bench]'\n")


@pytest.mark.parametrize("missing", ["scipy", "typer", "rich"])
def test_a_command_without_what_it_needs_says_so_before_it_begins(missing, tmp_path):
    script = f"import sys\nsys.modules['{missing}'] = None\nfrom gradkernels.__main__ import main\nsys.exit(main())"
    done = subprocess.run([sys.executable, "-c", script, "list"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"gradkernels: (the command line|this command) needs {missing}[.a-z]*: pip install 'gradkernels\[bench\]'\n",
        done.stderr,
    )
