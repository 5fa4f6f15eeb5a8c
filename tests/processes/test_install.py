"""The wheel and the source distribution, in environments of their own: minutes, with `--long`.

Both are built as anyone builds them. The wheel is installed without and with each extra, and what an extra promises is
called there; the tests run in the unpacked source distribution.
"""

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALL = """
import os

os.environ["JAX_ENABLE_X64"] = "1"
import gradkernels as gk

p = gk.LinearRegression()
theta, x, y = p.draw(50, seed=0)
assert gk.per_sample(p, theta, x, y).shape == (50, 2)
case = gk.Case(p, "per_sample", 50)
installed = {kernel.backend.name for kernel in gk.kernels(p, "per_sample") if not kernel.unsupported(case)}
print(*sorted(installed))
"""
# Of each extra: the array libraries whose kernels it brings, and whether it brings the command line.
EXTRAS = {
    "": ("numpy torch", False),
    "fast": ("numba numpy torch", False),
    "jax": ("jax numpy torch", False),
    "peers": ("numpy statsmodels torch", False),
    "data": ("numpy torch", False),
    "bench": ("numpy torch", True),
    "dask": ("numpy torch", False),
    "zarr": ("numpy torch", False),
    "real": ("numpy torch", False),
    "all": ("jax numba numpy statsmodels torch", True),
}


TOOLS = {"dev", "docs", "mutation", "quantities", "scale"}
DOORS = {
    "doors",
    "opacus",
    "transformers",
    "lightning",
    "statsmodels",
    "linearmodels",
    "sklearn",
    "trak",
    "captum",
    "dattri",
    "laplace",
    "jax-privacy",
}
"""Extras of `gradkernels.adapters`: each brings one library, `doors` all; `dev` has them, and tests their doors."""


def test_every_extra_is_tried_or_a_tool_of_development():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) - {""} == set(extras) - TOOLS - DOORS


def run(*command, cwd=None, code=0):
    # A path of the tests' own would put this checkout before the wheel.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, timeout=1800)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def environment(folder, *packages):
    run(sys.executable, "-m", "venv", folder)
    pip = folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt"
    run(*pip, *packages)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(long, tmp_path_factory):
    """The folder of the source distribution and the wheel that is made from it."""
    if not long:
        pytest.skip("takes minutes: --long")
    folder = tmp_path_factory.mktemp("dist")
    tools = environment(tmp_path_factory.mktemp("tools"), "build")
    run(tools / "python", "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    (path,) = built.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder / path.name.removesuffix(".tar.gz")


def test_the_wheel_has_the_package_and_what_it_says_of_itself(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("/METADATA")]
        said = email.message_from_string(archive.read(metadata).decode())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"gradkernels"}
    assert {"gradkernels/wisdom.json", "gradkernels/py.typed"} <= set(names)
    assert (said["Requires-Python"], said["License-Expression"]) == (">=3.11", "MIT")
    assert said["Description-Content-Type"] == "text/markdown"
    assert "](docs/" not in said.get_payload()


def test_the_source_distribution_tests_itself(unpacked):
    """Some of the tests that read files of the repository, and some that compute."""
    names = ("test_package", "docs/test_notebook", "test_house", "test_key", "test_problems", "test_record")
    tests = [f"tests/{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), *command],
        cwd=unpacked,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout
    assert (unpacked / ".ci" / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_wheel_works_with_an_extra_and_without(extra, wheel, tmp_path):
    libraries, command_line = EXTRAS[extra]
    programs = environment(tmp_path / "environment", f"{wheel}[{extra}]" if extra else str(wheel))
    assert run(programs / "python", "-W", "error", "-c", CALL, cwd=tmp_path).stdout.split() == libraries.split()
    if command_line:
        out = tmp_path / "out.csv"
        sizes = ("--kernel", "numpy.*", "--sizes", "10", "--passes", "1", "--budget", "1s", "--out", out)
        run(programs / "gradkernels", "run", *sizes, cwd=tmp_path)
        assert "numpy" in run(programs / "gradkernels", "fastest", out, cwd=tmp_path).stdout
    else:
        says = run(programs / "gradkernels", "list", cwd=tmp_path, code=2).stderr
        assert "pip install 'gradkernels[bench]'" in says
