"""What the tests of the pages share: which pages have blocks of a language, and that what a command names is there."""

from __future__ import annotations

import doctest
import re
import tomllib
from pathlib import Path

import pages
import pytest

from gradkernels.names import pick

ROOT = pages.ROOT
# Their code becomes part of a copy of the package, in which their commands run.
ADDING = {
    "adding-a-kernel": "gradkernels/kernels/numpy_einsum.py",
    "adding-a-quantity": "gradkernels/quantities/largest.py",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def of_language(page: Path, language: str) -> list[str]:
    return [block.text for block in pages.blocks(page) if block.language == language]


def having(language: str):
    """A test for each page with blocks of a language; Python that is added to the package runs with the commands."""
    added = ADDING if language == "python" else {}
    found = [page for page in pages.PAGES if of_language(page, language) and page.stem not in added]
    return pytest.mark.parametrize("page", found, ids=lambda page: page.stem)


def require_output(shown: str, printed: str, what: str) -> None:
    """Compare output with what a page shows of it, where `...` stands for anything."""
    assert doctest.OutputChecker().check_output(shown, printed, FLAGS), f"{what} prints\n{printed}\nnot\n{shown}"


def look_up(command: list[str]) -> None:
    """Require that what a command names is there."""
    match command:
        case ["pip", "install", *arguments]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for argument in arguments:
                if found := re.fullmatch(r"(?:\.|gradkernels)\[([\w,-]+)]", argument):
                    for extra in found[1].split(","):
                        pick(extras, extra, "extra")
                elif not argument.startswith("-") and argument != "gradkernels":
                    assert (ROOT / argument).exists(), argument
        case ["make", *targets]:
            rules = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(" ".join(rules).split()), command
        case ["python" | "pytest", file, *arguments]:
            assert (ROOT / file).exists(), command
            options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
            declared = "".join(one.read_text() for one in (ROOT / "bench").rglob("*.py"))
            plugin = (ROOT / "gradkernels" / "bench" / "pytest_plugin" / "options.py").read_text()
            for option in options:
                ours = option.removeprefix("--gradkernels-")
                assert f'"{option}"' in declared or f'"{ours}"' in plugin, (command, option)
        case _:
            pytest.fail(f"nothing here knows how to check {command}")
