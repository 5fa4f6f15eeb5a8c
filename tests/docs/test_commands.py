"""README and docs do what they say: their commands run.

Commands run as they stand, without options that the text does not show, in a folder that has the repository's
`results` and `bench`, and settings of its own. Not run are those that set up an environment or run these very tests:
of `pip`, `make`, `python FILE` and `pytest tests/...`, the extras, targets and files are looked up.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import pytest
from page_checks import ADDING, ROOT, having, look_up, of_language, require_output

from gradkernels.bench.cli import main


def run(command: list[str], folder: Path, package: Path = ROOT, codes: tuple[int, ...] = (0,)) -> str:
    """The output of a command that must end with one of `codes`, with a wisdom of its own and a package's folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(package), "GRADKERNELS_WISDOM": str(folder / "wisdom.json")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in codes, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# `ab` stops once it is sure, and of a change by 25% it is sooner than of one by 1%: after 8 passes instead of 32.
SOONER = '[tool.gradkernels.ab]\ndelta = "25%"\n'


@having("console")
def test_the_commands_of_a_page_run(page, tmp_path):
    (tmp_path / "pyproject.toml").write_text(SOONER)
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
