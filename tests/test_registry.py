"""The registry: one list, keys that say what a kernel is, one file per kernel, and reasons instead of errors."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import gradkernels as gk
from gradkernels import registry
from gradkernels.backend import NUMPY, Backend
from gradkernels.kernel import compose, declare
from gradkernels.quantity import QUANTITIES

ROOT = Path(__file__).parents[1]
P = gk.LinearRegression()
NEW_KERNEL = '''
"""Rows from the closed form."""
from gradkernels.kernel import declare
from gradkernels.problems import ScalarRegression

@declare("numpy.outer.per_sample", problems=ScalarRegression)
def per_sample(problem, block=64):
    import numpy as np
    def compute(theta, x, y):
        return problem.slopes(np, theta, x, y)[:, None] * problem.design(x)
    return compute
'''
PROVE_IT = """
import gradkernels as gk
for quantity in ("gradient", "per_sample", "norms", "moments", "clipped_sum"):
    way = "numpy.outer" if quantity == "per_sample" else "numpy.outer+"
    gk.check(f"{way}.{quantity}", gk.Case(gk.LinearRegression(), quantity, 9))
print(*(kernel.key for kernel in gk.kernels() if "outer" in kernel.name))
"""
OF_LOSSES = [name for name, one in QUANTITIES.items() if not one.of_outputs]
OF_ONE_FILE = {"numpy.outer.per_sample", *(f"numpy.outer+.{one}" for one in OF_LOSSES if one != "per_sample")}


def python(code, *paths):
    """What the code prints in a fresh interpreter that finds packages in `paths` first."""
    done = subprocess.run(
        # -P: not the current folder, which may be the checkout.
        [sys.executable, "-P", "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copied(tmp_path):
    """A folder with a copy of the package."""
    shutil.copytree(ROOT / "gradkernels", tmp_path / "gradkernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_kernel_in_one_new_file_is_listed_composed_and_proven(copied):
    (copied / "gradkernels" / "kernels" / "numpy_outer.py").write_text(NEW_KERNEL)
    assert set(python(PROVE_IT, copied).split()) == OF_ONE_FILE


def test_a_kernel_of_another_package_is_found_by_its_entry_point(tmp_path):
    (tmp_path / "others.py").write_text(NEW_KERNEL)
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gradkernels.kernels]\nothers = others\n")
    assert set(python(PROVE_IT, tmp_path, ROOT).split()) == OF_ONE_FILE


def test_two_kernels_of_one_key_are_refused_and_one_imported_twice_is_not(copied):
    kernels = copied / "gradkernels" / "kernels"
    (kernels / "numpy_outer.py").write_text(NEW_KERNEL)
    (kernels / "numpy_borrowed.py").write_text("from gradkernels.kernels.numpy_outer import per_sample")
    assert set(python(PROVE_IT, copied).split()) == OF_ONE_FILE
    (kernels / "numpy_second.py").write_text(NEW_KERNEL)
    says = python("import gradkernels as gk\ntry: gk.kernels()\nexcept ValueError as error: print(error)", copied)
    places = "gradkernels.kernels.numpy_outer and gradkernels.kernels.numpy_second"
    assert says.strip() == f"{places} both declare numpy.outer.per_sample; rename one"


WITHOUT_JAX = """
import sys
sys.modules["jax"] = None
import gradkernels as gk
kernels = [kernel for kernel in gk.kernels() if kernel.backend.name == "jax"]
for kernel in kernels:
    for dtype in ("float64", "float32"):
        print(*kernel.unsupported(gk.Case(gk.LinearRegression(), kernel.quantity, 5, dtype)))
try:
    gk.check(kernels[0], gk.Case(gk.LinearRegression(), kernels[0].quantity, 5))
except ValueError as error:
    print(error)
"""


def test_a_library_that_is_not_installed_is_a_reason():
    *reasons, refusal = python(WITHOUT_JAX).splitlines()
    missing, other = "jax is not installed: pip install jax", "is written for a FunctionProblem, not for"
    assert [line for line in reasons if not line.startswith(missing)] == []
    # jax.grad has the gradient, jax.vmap every quantity of losses; each in two dtypes. Others are for functions of JAX.
    assert [line for line in reasons if other not in line] == [missing] * 2 * (1 + len(OF_LOSSES))
    assert refusal == "jax.grad.gradient cannot do this case: jax is not installed: pip install jax"


def test_a_library_that_does_not_exist_is_a_reason_and_never_imported():
    kernel = replace(gk.kernel("numpy.loop.per_sample"), backend=Backend("nosuchlibrary", 9, NUMPY))
    reasons = kernel.unsupported(gk.Case(P, "per_sample", 5))
    assert reasons == ("nosuchlibrary is not installed: pip install nosuchlibrary",)
    assert compose(kernel, QUANTITIES["norms"]).unsupported(gk.Case(P, "norms", 5)) == reasons


def test_every_reason_is_given_not_only_the_first():
    reasons = gk.kernel("jax.vmap.per_sample").unsupported(gk.Case(P, "norms", 5, device="cuda"))
    assert reasons == ("jax computes on cpu here, not on cuda", "jax.vmap.per_sample computes per_sample, not norms")


def test_a_supported_case_has_no_reasons():
    assert gk.kernel("torch.vmap.per_sample").unsupported(gk.Case(P, "per_sample", 5)) == ()


def test_every_way_of_the_issue_gives_what_it_can():
    found = {}
    for kernel in gk.kernels(P):
        found.setdefault(kernel.way.removesuffix("+"), set()).add(kernel.quantity.name)
    rows = {way: set(OF_LOSSES) for way in ("numpy.loop", "numpy.broadcast", "torch.loop", "torch.vmap", "jax.vmap")}
    means = {"numpy.matmul": {"gradient", "weighted_sum", "inner", "gram"}, "torch.autograd": {"gradient"}}
    assert found | rows | means == found


def test_the_key_is_unique_and_finds_its_kernel():
    keys = [kernel.key for kernel in gk.kernels()]
    assert len(set(keys)) == len(keys)
    assert all(gk.kernel(key).key == key for key in keys)


def test_a_composed_name_ends_in_plus_and_stands_aside_for_what_is_written_by_hand():
    composed = [kernel for kernel in gk.kernels() if kernel.composed]
    assert composed
    assert all(kernel.name.endswith("+") and kernel.quantity.name != "per_sample" for kernel in composed)
    by_hand = {kernel.key for kernel in gk.kernels() if not kernel.composed}
    assert not by_hand & {kernel.key.replace("+", "") for kernel in composed}


def test_the_list_can_be_narrowed_to_a_quantity_and_a_problem():
    assert {kernel.quantity.name for kernel in gk.kernels(quantity="norms")} == {"norms"}
    ways = {kernel.way for kernel in gk.kernels(P)}
    assert {"numpy.broadcast", "numpy.broadcast+", "torch.vmap", "jax.vmap+"} < ways
    assert not any(way.startswith(("torch.hooks", "opacus.")) for way in ways)  # written for modules
    with pytest.raises(ValueError, match="there is no quantity 'norm'; did you mean norms?"):
        gk.kernels(quantity="norm")


def test_python_loops_come_last_and_few_dependencies_first():
    keys = [kernel.key for kernel in gk.kernels(quantity="per_sample")]
    assert keys[:2] == ["numpy.broadcast.per_sample", "numpy.blocked.per_sample"]
    assert keys[-3:] == ["numpy.loop.per_sample", "torch.loop.per_sample", "jax.loop.per_sample"]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("numpy.brodcast.per_sample", "there is no kernel 'numpy.brodcast.per_sample'; did you mean numpy.broad"),
        ("numpy.broadcast", "there is no kernel 'numpy.broadcast'; did you mean "),
        ("xyzzy", "there is no kernel 'xyzzy'; known: numpy.matmul.gradient, numpy.blocked.gradient, "),
        ("", "there is no kernel ''; known: "),
        ("torch.vmap[chunks=2].per_sample", "there is no option of torch.vmap 'chunks'; did you mean chunk?"),
        ("torch.vmap[chunk].per_sample", r"settings are written \[name=number\], for instance \[chunk=512\]"),
        ("torch.vmap[chunk=0].per_sample", r"settings are written \[name=number\]"),
        ("torch.vmap[chunk=-5].per_sample", r"settings are written \[name=number\]"),
        ("torch.vmap[chunk=1e3].per_sample", r"settings are written \[name=number\]"),
        ("torch.vmap[].per_sample", r"there is no kernel 'torch.vmap\[\].per_sample'; did you mean torch"),
        ("torch.vmap[chunk=5]", r"there is no kernel 'torch.vmap\[chunk=5\]'; did you mean torch.vmap"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_near_ones(key, says):
    with pytest.raises(ValueError, match=says):
        gk.kernel(key)


@pytest.mark.parametrize("key", ["torch.vmap[chunk=512].per_sample", "torch.vmap+[chunk=512].norms"])
def test_settings_are_part_of_the_key_and_reach_the_builder(key):
    kernel = gk.kernel(key)
    assert kernel.key == key
    assert dict(kernel.set_options) == {"chunk": 512}
    assert kernel == gk.kernel(key) != gk.kernel(key.replace("512", "513"))


def test_settings_are_passed_on_also_through_composition():
    seen = []

    @declare("numpy.spy.per_sample")
    def spy(problem, chunk=8, depth=1):
        seen.append((chunk, depth))
        return gk.kernel("numpy.broadcast.per_sample").build(problem)

    spy.with_options({"chunk": 3}).build(P)
    composed = compose(spy, QUANTITIES["norms"]).with_options({"depth": 2, "chunk": 5})
    composed.build(P)
    assert seen == [(3, 1), (5, 2)]
    assert composed.key == "numpy.spy+[chunk=5,depth=2].norms"


def test_the_default_setting_is_no_variant():
    assert gk.kernel("torch.vmap[chunk=16384].per_sample") == gk.kernel("torch.vmap.per_sample")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("numpy.mine", "kernel key 'numpy.mine': write backend.name.quantity, for instance numpy.broadcast.per_sample"),
        ("numpy.mine.per_sample.x", "write backend.name.quantity"),
        ("numpy.mine+.norms", "write backend.name.quantity"),
        ("numpy.my[x=1].norms", "write backend.name.quantity"),
        ("numpi.mine.norms", "there is no backend 'numpi'; did you mean numpy?"),
        ("numpy.mine.norm", "there is no quantity 'norm'; did you mean norms?"),
    ],
)
def test_a_declaration_that_names_nothing_is_refused(key, says):
    with pytest.raises(ValueError, match=says):
        declare(key)(lambda problem: None)


@pytest.mark.parametrize("builder", [lambda p, chunk: None, lambda p, chunk=0.5: None, lambda p, **o: None])
def test_a_setting_without_a_whole_default_is_refused(builder):
    with pytest.raises(ValueError, match="numpy.mine.norms: the builder's setting '(chunk|o)' needs a whole number"):
        declare("numpy.mine.norms")(builder)


class Entry:
    """An entry point of a package that is not installed."""

    name, value = "theirs", "their_package.kernels"
    dist = type("Distribution", (), {"name": "their-package"})

    def __init__(self, load):
        self.load = load


def declaring(key):
    module = ModuleType("their_package.kernels")
    exec(NEW_KERNEL.replace("numpy.outer.per_sample", key), vars(module))
    return module


def leaving():
    raise SystemExit("no licence")


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda: importlib.import_module("their_package"), "ModuleNotFoundError: No module named 'their_package'"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (leaving, "SystemExit: no licence"),
        (lambda: declaring("outer"), "ValueError: kernel key 'outer': write backend.name.quantity"),
        (lambda: declaring("numpy.broadcast.per_sample"), "both declare numpy.broadcast.per_sample; rename one"),
        (lambda: NEW_KERNEL, "TypeError: it names a str; it must name a module with kernels"),
    ],
)
def test_a_broken_entry_point_is_left_out_and_named(monkeypatch, load, says):
    good = Entry(lambda: declaring("numpy.outer.per_sample"))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry(load), good])
    # Read anew for this test alone: other tests hold kernels of the list that there is.
    monkeypatch.setattr(registry, "_all", registry._all.__wrapped__)
    with pytest.warns(UserWarning, match=re.escape(says)) as caught:
        found = {kernel.key for kernel in gk.kernels()}
    said = str(caught[0].message)
    assert said.startswith("the kernels of their-package are left out: its entry point 'theirs' = 'their_package.kern")
    assert said.endswith("; correct or uninstall their-package")
    assert {"numpy.outer.per_sample", "numpy.broadcast.per_sample", "torch.vmap.per_sample"} <= found
