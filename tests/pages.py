"""The pages of README and docs: their blocks of code, their links, and the tables in them that the code prints.

`python tests/pages.py` prints those tables anew, into the pages, and draws the pictures of the gallery;
`python tests/pages.py docs/how-fast.md` prints those of one page.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "results/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTED = re.compile(r"(<!-- printed by: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its text and the line of the page on which it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in _BLOCK.finditer(text)]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[tuple[str, str]]:
    """Each command after a `$` in the page's console blocks, with what is shown of its output."""
    found = []
    for block in blocks(page):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append((command, output))
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def printed(page: Path) -> Iterator[tuple[str, str, str]]:
    """Each printed part of a page: what prints it, what stands there, and what is printed now."""
    for found in _PRINTED.finditer(page.read_text(encoding="utf-8")):
        yield found[2], found[3], output_of(found[2])


def output_of(source: str) -> str:
    """What a command prints, or one of PRINTERS; after a bar, only the columns named there of its tables."""
    command, _, columns = source.partition(" | ")
    text = PRINTERS[command]() if command in PRINTERS else run(shlex.split(command))
    return _columns(text, columns.split(", ")) if columns else text


def run(command: list[str]) -> str:
    """What `gradkernels ...` or `python FILE ...` prints in the repository."""
    from gradkernels.bench.cli import main

    if command[0] == "python":
        return subprocess.run(
            [sys.executable, *command[1:]], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.chdir(ROOT):
        assert main(command[1:]) == 0, command
    return shown.getvalue()


def _columns(text: str, names: list[str]) -> str:
    rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in text.splitlines() if line.startswith("|")]
    positions = [rows[0].index(name) for name in names]
    return "".join("| " + " | ".join(row[position] for position in positions) + " |\n" for row in rows)


def _kernel_modules() -> str:
    """A row per module of `gradkernels/kernels`: the methods declared there and its docstring's first line."""
    from gradkernels.kernel import Kernel
    from gradkernels.registry import kernels

    declared: dict[str, list[Kernel]] = {}
    for kernel in kernels():
        if not kernel.composed:
            declared.setdefault(kernel.builder.__module__.rpartition(".")[2], []).append(kernel)
    rows = ["| methods | how, as the module that declares them says |", "|---|---|"]
    for name in sorted(declared, key=lambda name: (declared[name][0].backend.preference, name)):
        source = ROOT / "gradkernels" / "kernels" / f"{name}.py"
        says = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        ways = dict.fromkeys(f"`{kernel.way}`" for kernel in declared[name])
        rows.append(f"| {', '.join(ways)} | {says} |")
    return "\n".join(rows) + "\n"


def _power() -> str:
    """What becomes of slowdowns that are known, in a simulation."""
    import power

    return power.table()


def _on_paper(name: str) -> str:
    """What a large job would cost, by measurements in `results`."""
    import on_paper

    return on_paper.tables()[name]


PRINTERS: dict[str, Callable[[], str]] = {
    "the docstrings of gradkernels/kernels": _kernel_modules,
    "tests/power.py": _power,
    "tests/on_paper.py regression": lambda: _on_paper("regression"),
    "tests/on_paper.py projections": lambda: _on_paper("projections"),
    "tests/on_paper.py sweep": lambda: _on_paper("sweep"),
}
"""What is printed otherwise than by a command."""


def print_anew(page: Path) -> None:
    """Write what is printed now into the page."""
    text = page.read_text(encoding="utf-8")
    page.write_text(_PRINTED.sub(lambda found: f"{found[1]}{output_of(found[2])}{found[4]}", text), encoding="utf-8")


def draw_anew() -> None:
    """Draw the pictures of the gallery by the commands that stand there, in few colours, which makes small files."""
    from PIL import Image

    gallery = ROOT / "docs" / "gallery.md"
    inline = re.findall(r"`(gradkernels plot [^`]+\.png)`", prose(gallery))
    for command in [*inline, *(one for one, _ in commands(gallery))]:
        *words, out = shlex.split(command)
        picture = gallery.parent / "pictures" / Path(out).name
        run([*words, str(picture), "--force"])
        drawn = Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        drawn.save(picture, optimize=True)


if __name__ == "__main__":
    os.environ["JAX_ENABLE_X64"] = "1"
    named = [Path(name).resolve() for name in sys.argv[1:]]
    for each in named or PAGES:
        print_anew(each)
    if not named:
        draw_anew()
