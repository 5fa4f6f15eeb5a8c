"""README and docs are true to what is there: their tables, links, names, and the commands within their sentences.

What stands in their blocks is run by the tests in tests/docs.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pages
import pytest
import typer
from page_checks import ADDING, ROOT, having, look_up, of_language

import gradkernels
from gradkernels.bench.cli.app import app
from gradkernels.bench.cli.settings import settings_here
from gradkernels.bench.compare.thresholds_toml import read_thresholds
from gradkernels.names import pick

README = ROOT / "README.md"
EACH = pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@EACH
def test_commands_in_sentences_can_be_parsed(page):
    import typer

    from gradkernels.bench.cli.app import app

    commands = typer.main.get_command(app).commands
    for code in re.findall(r"`([^`]+)`", pages.prose(page)):
        words = shlex.split(code) if re.match(r"(gradkernels|make|pip|pytest|python) ", code) else []
        if words[:1] == ["gradkernels"]:
            command = pick(commands, words[1], "command")
            if words[2:]:
                command.make_context(words[1], words[2:])
        elif words and not words[1].startswith("-"):
            look_up(words)


# What is printed into the pages, and the rest of their form.


@EACH
def test_tables_are_what_the_code_prints(page):
    for source, shown, printed in pages.printed(page):
        assert shown == printed, f"{source} prints something else now; `python tests/pages.py` puts it into the page"


@EACH
def test_every_block_is_checked_by_something(page):
    languages = {block.language for block in pages.blocks(page)}
    drawing = {"text"} if page.stem == "architecture" else set()
    change = {"diff"} if page.stem in ADDING else set()
    workflow = {"yaml"} if page.stem == "ci-gate" else set()  # which test_package.py looks at
    workflow |= {"yaml", "bash"} if page.stem == "many-machines" else set()  # which test_shards.py looks at
    assert languages <= {"python", "console", "toml"} | drawing | change | workflow


@having("toml")
def test_toml_can_be_read(page, tmp_path, monkeypatch):
    for block in of_language(page, "toml"):
        assert tomllib.loads(block)
        file = tmp_path / "pyproject.toml"
        file.write_text(block)
        if "tool.gradkernels.compare" in block:
            assert read_thresholds(file).overrides
        elif "tool.gradkernels" in block:
            monkeypatch.chdir(tmp_path)
            assert settings_here(typer.main.get_command(app).commands, [])


@EACH
def test_links_lead_to_files_and_headings(page):
    for link in pages.links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert name.startswith("https://") or target.exists(), link
        assert not anchor or anchor in pages.anchors(target), link


@EACH
def test_files_and_names_in_sentences_are_there(page):
    made = ADDING.get(page.stem, "")
    written = {made, *(word for command, _ in pages.commands(page) for word in shlex.split(command))}
    for code in re.findall(r"`([^`]+)`", pages.prose(page)):
        if found := re.match(r"gk\.(\w+)", code):
            assert hasattr(gradkernels, found[1]) or found[1] == Path(made).stem, code
        if re.fullmatch(r"(gradkernels|bench|tests|results|docs)/[\w/.-]+", code):
            assert code in written or any((folder / code).exists() for folder in (ROOT, ROOT / "gradkernels")), code


def test_the_drawing_of_the_architecture_is_of_folders_that_are_there():
    (drawing,) = of_language(ROOT / "docs" / "architecture.md", "text")
    package = ROOT / "gradkernels"
    drawn = set(re.findall(r"\b(bench/\w+|\w+(?=/ ))", drawing))
    assert len(drawn) >= 10
    assert [name for name in drawn if not (package / name).is_dir()] == []
    # Each folder of the package has its place in it.
    folders = {one.parent.relative_to(package).as_posix() for one in package.rglob("__init__.py")}
    inner = {name for name in folders if name.count("/") == name.startswith("bench/")} - {".", "bench"}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in inner if name not in text] == []


def linked(page: Path) -> set[Path]:
    return {(page.parent / link.partition("#")[0]).resolve() for link in pages.links(page)}


def test_the_readme_or_the_map_leads_to_every_page():
    index = ROOT / "docs" / "index.md"
    assert index in linked(README)
    assert set(pages.PAGES) - {ROOT / "CHANGELOG.md", README} <= linked(README) | linked(index)


def test_every_option_of_every_command_is_on_a_page():
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages.PAGES)
    commands = typer.main.get_command(app).commands.values()
    options = {name for command in commands for one in command.params for name in one.opts if name.startswith("--")}
    assert {"--seed", "--fail-slower"} < options
    assert {name for name in options if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)} == set()


def test_the_readme_is_short_and_fits_a_narrow_window():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 12 * 1024
    first = next(block for block in pages.blocks(README) if block.language == "python")
    assert first.line < 20
    tables = [line for _, shown, _ in pages.printed(README) for line in shown.splitlines()]
    assert tables
    assert max(map(len, tables)) <= 80


def test_the_citation_is_of_this_version():
    assert f"version: {gradkernels.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@EACH
def test_nothing_is_left_open(page):
    assert "TODO" not in page.read_text(encoding="utf-8")
