"""README and docs do what they say: their Python prints it, their commands run, their links lead somewhere.

Commands run as they stand, without options that the text does not show, in a folder that has the repository's
`results` and `bench`. Not run are those that set up an environment or run these very tests: of `pip`, `make`,
`python FILE` and `pytest tests/...`, the extras, targets and files are looked up. Commands within sentences, some of
which take an hour, are parsed.
"""

from __future__ import annotations

import contextlib
import csv
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pages
import pytest
import scripts
import typer

import gradkernels
from gradkernels.bench.cli import main
from gradkernels.bench.cli.app import app
from gradkernels.bench.cli.settings import settings_here
from gradkernels.bench.compare.thresholds_toml import read_thresholds
from gradkernels.names import pick

ROOT = pages.ROOT
README = ROOT / "README.md"
# Their code becomes part of a copy of the package, in which their commands run.
ADDING = {
    "adding-a-kernel": "gradkernels/kernels/numpy_einsum.py",
    "adding-a-quantity": "gradkernels/quantities/largest.py",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
EACH = pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def of_language(page: Path, language: str) -> list[str]:
    return [block.text for block in pages.blocks(page) if block.language == language]


def having(language: str):
    """A test for each page with blocks of a language; Python that is added to the package runs with the commands."""
    added = ADDING if language == "python" else {}
    found = [page for page in pages.PAGES if of_language(page, language) and page.stem not in added]
    return pytest.mark.parametrize("page", found, ids=lambda page: page.stem)


def run(command: list[str], folder: Path, package: Path = ROOT, codes: tuple[int, ...] = (0,)) -> str:
    """The output of a command that must end with one of `codes`, with a wisdom of its own and a package's folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(package), "GRADKERNELS_WISDOM": str(folder / "wisdom.json")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in codes, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def require_output(shown: str, printed: str, what: str) -> None:
    """Compare output with what a page shows of it, where `...` stands for anything."""
    assert doctest.OutputChecker().check_output(shown, printed, FLAGS), f"{what} prints\n{printed}\nnot\n{shown}"


# Python.


def expected(source: str) -> str:
    """What a source says that it prints: comments behind `print`, or alone on the lines below."""
    lines, says, below = [], re.compile(r"\s*print\(.*?\)(?:  # (.*))?$"), False
    for line in source.splitlines():
        if found := says.match(line):
            lines += [found[1]] if found[1] else []
            below = not found[1]
        elif below and line.startswith("# "):
            lines.append(line[2:])
        else:
            below = False
    return "\n".join(lines) + "\n"


@having("python")
def test_the_python_of_a_page_prints_what_it_says(page, tmp_path):
    source = "\n".join(of_language(page, "python"))
    variables = {"PYTHONPATH": str(ROOT), "GRADKERNELS_WISDOM": str(tmp_path / "wisdom.json")}
    require_output(expected(source), scripts.output_of(source, tmp_path, variables), page.name)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("print(f(1))  # (1, 2)\n# a comment\n", "(1, 2)\n"),
        ("for i in (1, 2):\n    print(i)\n# 1\n# 2\n\n# a comment\n", "1\n2\n"),
    ],
)
def test_expectations_are_comments_of_prints(source, says):
    assert expected(source) == says


def test_output_that_differs_is_seen():
    with pytest.raises(AssertionError, match="prints"):
        require_output("1\n...\n3\n", "1\n2\n4\n", "it")


# Commands.


@having("console")
def test_the_commands_of_a_page_run(page, tmp_path):
    for name in ("results", "bench"):
        shutil.copytree(ROOT / name, tmp_path / name)
    package = ROOT
    if page.stem in ADDING or any(command.startswith("gradkernels ab ") for command, _ in pages.commands(page)):
        shutil.copytree(ROOT / "gradkernels", tmp_path / "gradkernels", ignore=shutil.ignore_patterns("__pycache__"))
        commit(tmp_path)
    if page.stem in ADDING:
        add_to_package(page, tmp_path)
        package = tmp_path
    for command, shown in pages.commands(page):
        printed = execute(shlex.split(command), tmp_path, package)
        if shown.strip():
            require_output(shown, printed, command)


def execute(command: list[str], folder: Path, package: Path) -> str:
    match command:
        case ["gradkernels", "run", *arguments] if "--resume" not in arguments:
            return measured_once(command, folder, package)
        case ["gradkernels", name, *arguments] if name in COMPUTED and package == ROOT:
            return run_here([name, *arguments], folder)
        case ["gradkernels", *arguments]:
            # On a machine with other work, `ab` may see that its own timing cannot be trusted: code 5.
            codes = (0, 5) if arguments[0] == "ab" else (0,)
            printed = run([sys.executable, "-m", "gradkernels", *arguments], folder, package, codes)
            if arguments[0] == "run":
                require_measured(folder / out_of(command))
            return printed
        case ["pytest", "bench", *_]:
            return run([sys.executable, "-m", *command, "-p", "no:cacheprovider"], folder, package)
        case _:
            look_up(command)
            return ""


COMPUTED = ("audit", "fastest", "compare", "plot", "report", "list", "estimate", "summary", "merge")
"""Commands that start no processes and can run in this one, which has loaded all that they need."""


def run_here(arguments: list[str], folder: Path) -> str:
    """What a command prints that must succeed, in a folder, with a wisdom of its own."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("GRADKERNELS_WISDOM", str(folder / "wisdom.json"))
        assert main(arguments) == 0, f"{shlex.join(arguments)}\n{printed.getvalue()}"
    return printed.getvalue()


def out_of(command: list[str]) -> Path:
    return Path(command[command.index("--out") + 1])


def require_measured(file: Path) -> None:
    with file.open(newline="") as rows:
        assert {row["status"] for row in csv.DictReader(rows)} <= {"ok", "timeout", "unsupported"}, file


RUNS: dict[tuple[str, ...], tuple[str, dict[str, bytes]]] = {}
"""What the first page with a run of this repository's package had of it: what was printed, and the files it made."""


def measured_once(command: list[str], folder: Path, package: Path) -> str:
    """Run what measures, into a file that is not there yet; pages that show the same command share its outcome."""
    out = folder / out_of(command)
    assert not out.exists(), command
    key = tuple(command)
    if package != ROOT or key not in RUNS:
        printed = run([sys.executable, "-m", *command], folder, package)
        require_measured(out)
        made = {path.name: path.read_bytes() for path in out.parent.glob(f"{out.stem}.*")}
        if package != ROOT:
            return printed
        RUNS[key] = printed, made
    printed, made = RUNS[key]
    for name, content in made.items():
        (out.parent / name).write_bytes(content)
    return printed


def look_up(command: list[str]) -> None:
    """Require that what a command names is there."""
    match command:
        case ["pip", "install", *arguments]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for argument in arguments:
                if found := re.fullmatch(r"(?:\.|gradkernels)\[(\w+)]", argument):
                    pick(extras, found[1], "extra")
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


def commit(folder: Path) -> None:
    """Make a git repository of a folder, with one commit of its package."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], ["add", "gradkernels"], ["commit", "--quiet", "--message", "a"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True)


def add_to_package(page: Path, folder: Path) -> None:
    """Make the changes of a page to the package in a folder: a module of its own, or lines in others."""
    if name := ADDING[page.stem]:
        (source,) = of_language(page, "python")
        (folder / name).write_text(source, encoding="utf-8")
    for block in of_language(page, "diff"):
        for part in re.split(r"^--- ", block, flags=re.MULTILINE)[1:]:
            name, _, lines = part.partition("\n")
            file = folder / name
            file.write_text(inserted(file.read_text(encoding="utf-8"), lines), encoding="utf-8")


def inserted(text: str, lines: str) -> str:
    """Put the lines with a `+` beside those without, which must occur once; `@@` separates places."""
    for place in lines.split("@@\n"):
        rows = place.splitlines()
        before = "".join(row[1:] + "\n" for row in rows if row.startswith(" "))
        after = "".join(row[1:] + "\n" for row in rows)
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


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
