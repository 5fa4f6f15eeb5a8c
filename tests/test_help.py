"""Help and options, read off the commands' signatures alone: what is not needed for them is not loaded."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from gradkernels import coordinates, names
from gradkernels.bench.cli import lazy
from gradkernels.bench.cli.app import COMMANDS
from gradkernels.bench.cli.lazy import with_signature_of
from gradkernels.problems import REGRESSIONS
from gradkernels.problems.data.datasets import BUNDLED
from gradkernels.problems.data.files import KINDS_OF_FILE
from gradkernels.quantity import QUANTITIES

HEAVY = {"numpy", "torch", "jax", "numba", "scipy", "pandas", "pyarrow", "matplotlib", "rich", "pydantic"}
ASK = f"""
import sys
from gradkernels.bench.cli import main

assert main(["--help"]) == main(["-h"]) == main(["--version"]) == 0
for command in sys.argv[1:]:
    assert main([command, "--help"]) == main([command, "-h"]) == 0, command
    assert main([command, "--none-such"]) == 2, command
print(*{HEAVY} & set(sys.modules), file=sys.stderr)
"""


def test_help_and_bad_options_load_no_library_that_computes_or_draws():
    names_of_all = [str(command.name) for command in COMMANDS]
    done = subprocess.run([sys.executable, "-c", ASK, *names_of_all], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.splitlines()[len(names_of_all) :]
    assert loaded == [""]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_signature_is_that_of_the_command(command):
    module, _, name = command.where.partition(":")
    function = getattr(import_module(f"{lazy.PACKAGE}.{module}"), name)
    light = with_signature_of(f"{lazy.PACKAGE}.{module}", name)
    assert inspect.signature(light, eval_str=True) == inspect.signature(function, eval_str=True)
    assert light.__doc__ == function.__doc__


def test_the_function_is_called_with_what_was_given(tmp_path, monkeypatch):
    (tmp_path / "some_command.py").write_text(
        'import none_such\nFIVE = 5\nTEN = 2 * FIVE\n\n\ndef command(a, b: int = TEN):\n    """Say."""\n    return a\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    light = with_signature_of("some_command", "command")
    assert str(inspect.signature(light)) == "(a, b: 'int' = 10)"
    with pytest.raises(ModuleNotFoundError, match="none_such"):  # the import that the signature does not need
        light(1)
    monkeypatch.setitem(sys.modules, "none_such", sys)
    assert light(7) == 7


def test_names_are_those_of_what_they_name():
    assert tuple(REGRESSIONS) == coordinates.REGRESSION_NAMES
    assert tuple(QUANTITIES) == coordinates.QUANTITY_NAMES
    assert tuple(BUNDLED) == coordinates.DATA_SETS
    assert names.DATA_FILES == KINDS_OF_FILE
