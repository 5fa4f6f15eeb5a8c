"""The README does what it says: its Python runs, its commands run, its example kernel is found."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradkernels.bench.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Appended to what the README runs for minutes; the last of an option counts.
QUICK = ["--sizes", "10,100", "--budget", "1s", "--passes", "1"]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [
    shlex.split(line[2:], comments=True)[1:]
    for block in blocks("console")
    for line in block.splitlines()
    if line.startswith("$ gradkernels") and " ab " not in line  # tests/test_ab.py runs that on small repositories
]


def test_the_python_of_the_readme_prints_what_it_says():
    sessions = [block for block in blocks("python") if block.startswith(">>>")]
    assert len(sessions) >= 3
    test = doctest.DocTestParser().get_doctest(
        "\n".join(sessions), {"__name__": "__main__"}, "README.md", "README.md", 0
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRADKERNELS_WISDOM", str(tmp_path / "wisdom.json"))
    shutil.copytree(ROOT / "results", tmp_path / "results")
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        quick = QUICK if command[0] == "run" else []
        force = ["--force"] if command[:2] == ["fastest", "results/reference.csv"] else []
        assert main([*command, *quick, *force]) == 0, (command, capsys.readouterr().err)


def test_the_pytest_commands_of_the_readme_run(tmp_path):
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("$ pytest ")]
    assert len(lines) == 2
    for line in lines:
        # The last of an option counts.
        quick = ["--gradkernels-sizes", "10", "--gradkernels-passes", "1", "-k", "numpy and matmul"]
        command = [sys.executable, "-m", "pytest", *shlex.split(line)[2:], *quick, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "gradkernels: code 0, nothing fails; exit status 0" in done.stdout


def test_every_file_that_the_readme_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README + (ROOT / "results" / "README.md").read_text()):
        assert (ROOT / target).exists() or target.startswith("http"), target


def test_the_kernel_of_the_readme_in_one_file_appears_everywhere(tmp_path):
    (source,) = (block for block in blocks("python") if "@declare" in block)
    shutil.copytree(ROOT / "gradkernels", tmp_path / "gradkernels")
    (tmp_path / "gradkernels" / "kernels" / "numpy_einsum.py").write_text(source)
    here = {**os.environ, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def run(*arguments):
        command = [sys.executable, "-m", "gradkernels", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "numpy.einsum" in run("list")
    kernels = ["--kernel", "numpy.einsum", "--kernel", "numpy.loop"]
    printed = run("run", *kernels, "--quantity", "norms,per_sample", "--out", "x.csv", *QUICK)
    assert "numpy.einsum+" in printed
    assert "numpy.einsum.per_sample" in run("fastest", "x.csv", "--format", "csv")


@pytest.mark.parametrize("word", ["TODO", "@@"])
def test_nothing_is_left_open_in_the_readme(word):
    assert word not in README
