"""The rooms stay small enough to be seen at a glance, and what measures them sees what it says."""

import ast
import re
from pathlib import Path

import pytest
from house import House, doubles, numbers

HOUSE = House(Path(__file__).parent.parent)


def test_no_room_is_a_heap():
    rooms = {room: size for room, size in HOUSE.folders.items() if room != "gradkernels/kernels"}
    assert rooms.pop("gradkernels") <= 18
    assert {room: size for room, size in rooms.items() if size > 14} == {}


PACKAGES = [path.parent for path in sorted((HOUSE.root / "gradkernels").glob("*/**/__init__.py"))]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(HOUSE.root)))
def test_every_package_says_what_it_is_and_names_its_modules_in_ten_to_thirty_lines(package):
    says = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert 10 <= len(says.splitlines()) <= 30
    if package.name != "kernels":  # one file a way, found by the registry
        modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
        modules |= {path.parent.name for path in package.glob("*/__init__.py")}
        assert modules <= set(re.findall(r"`([a-z0-9_]+)[`.]", says))


def test_modules_and_functions_fit_a_screen_or_few():
    assert {name: size for name, size in HOUSE.modules.items() if size > 250} == {}
    assert {name: size for name, size in HOUSE.functions.items() if size > 40} == {}


def test_a_public_type_has_one_name_in_the_house():
    assert doubles(HOUSE.classes) == {}


def test_a_constant_or_an_alias_has_one_name_but_what_is_the_same_in_each_place():
    assert {name for name in doubles(HOUSE.names) if name[0].isupper()} == {"Floats", "T"}


def test_nothing_imports_itself_on_a_detour():
    assert HOUSE.circles == []


def test_what_is_public_says_what_it_does_and_takes():
    assert HOUSE.undocumented == []
    assert HOUSE.unexplained == []


def test_no_module_takes_a_private_name_of_another():
    assert HOUSE.trespasses == []


TABLES = '''
from __future__ import annotations
from typing import TYPE_CHECKING

import gradkernels.tables as own

if TYPE_CHECKING:
    from .sub.drawings import Drawing


class Table:
    """What is printed."""

    def _fold(self) -> None:
        """Fold it."""

    def show(self, one, two, three) -> None:
        """The table."""
        def inner():
            return None
        return inner
'''
DRAWINGS = '''
from ..tables import Table, _hidden

_own = 1


class Drawing:
    def draw(self, table: Table) -> None:
        """By definition."""
        table._fold()


class Table:
    """Another.

    Args:
        none: at all.
    """
'''


@pytest.fixture
def small(tmp_path):
    (tmp_path / "gradkernels/sub").mkdir(parents=True)
    (tmp_path / "gradkernels/__init__.py").touch()
    (tmp_path / "gradkernels/tables.py").write_text(TABLES)
    (tmp_path / "gradkernels/sub/__init__.py").touch()
    (tmp_path / "gradkernels/sub/drawings.py").write_text(DRAWINGS)
    (tmp_path / "pyproject.toml").write_text('[[tool.importlinter.contracts]]\nlayers = ["one", "two", "three"]\n')
    return House(tmp_path)


def test_the_numbers_are_those_of_a_small_house(small):
    assert numbers(small) == {
        "modules": 4,
        "lines": 39,
        "largest folder (but kernels/)": "1 sub",
        "loose modules at the top": 1,
        "layers": 3,
        "longest module": "21 tables",
        "modules over 250 lines": 0,
        "functions": 4,
        "median lines of a function": 2.5,
        "functions under 16 lines": "100%",
        "longest function": "5 tables:17 show",
        "functions over 40 lines": 0,
        "public names defined twice": 1,
        "public classes defined twice": 1,
        "public functions with docstring": "2 of 2 (100%)",
        "Args where >= 3 parameters": "0 of 1 (0%)",
        "docstrings not imperative (D401)": 1,
        "docstrings that begin with no verb": 2,
        "circles of imports": 1,
        "private names of another module": 2,
    }


def test_what_stands_behind_the_numbers_has_its_place(small):
    assert small.circles == [["gradkernels.sub.drawings", "gradkernels.tables"]]
    assert small.trespasses == ["gradkernels.sub.drawings:2 _hidden", "gradkernels.sub.drawings:10 ._fold"]
    assert small.riddles == ["gradkernels.tables:18"]
    assert small.fragments == ["gradkernels.sub.drawings:8 By definition.", "gradkernels.tables:17 The table."]
    assert small.unexplained == ["gradkernels.tables:17 show"]
    assert doubles(small.classes) == {"Table": {"gradkernels.tables", "gradkernels.sub.drawings"}}
