"""Options in pyproject.toml of the working folder, and `~` in paths."""

from __future__ import annotations

import json
from pathlib import Path

import measured
import pytest
import typer
from measured import cells

from gradkernels.bench.cli import main
from gradkernels.bench.cli.app import app
from gradkernels.bench.cli.settings import with_home_folder
from gradkernels.bench.compare.thresholds_toml import COMMAND_OPTIONS, KEYS
from gradkernels.record import HEADER, line


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a results file."""
    rows = [*measured.passes(measured.STEADY), *measured.passes(measured.NOISY, kernel="numpy.matmul.norms")]
    (tmp_path / "x.csv").write_text(HEADER + "".join(line(cells(row)) for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def said(text, *words, capsys):
    Path("pyproject.toml").write_text(text)
    code = main(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_an_option_is_taken_where_none_is_typed(here, capsys):
    text = '[tool.gradkernels.fastest]\nformat = "json"\nkernel = ["numpy.loop", "numpy.matmul"]\ncalls = 5\n'
    code, out, err = said(text, "fastest", "x.csv", capsys=capsys)
    assert (code, err) == (0, "")
    assert {row["kernel"] for row in json.loads(out)} == {"numpy.loop.norms", "numpy.matmul.norms"}


def test_what_is_typed_wins(here, capsys):
    text = '[tool.gradkernels.fastest]\nformat = "json"\nkernel = "numpy.loop"\n'
    code, out, _ = said(text, "fastest", "x.csv", "--format", "csv", "--kernel", "numpy.matmul", capsys=capsys)
    assert code == 0
    assert [row.split(",")[10] for row in out.splitlines()[1:]] == ["numpy.matmul.norms"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.gradkernels.fastest]\nformta = 1", "[tool.gradkernels.fastest]: there is no option 'formta'; did you "),
        (
            "[tool.gradkernels.run]\nsize = '10'",
            "pyproject.toml, [tool.gradkernels.run]: there is no option 'size'; did",
        ),
        ("[tool.gradkernels.rnu]\nsizes = '10'", "[tool.gradkernels]: there is no command 'rnu'; did you mean run?"),
        ("[tool.gradkernels]\nsizes = '10'", "pyproject.toml, [tool.gradkernels]: there is no command 'sizes'; "),
        ("[tool.gradkernels]\nrun = '10'", "[tool.gradkernels.run]: '10' is no table; write one with options of run"),
        (
            "[tool]\ngradkernels = 3",
            "pyproject.toml: tool.gradkernels is 3; write a table such as [tool.gradkernels.run]",
        ),
        ("[tool.gradkernels.run]\nrace = 'yes'", "[tool.gradkernels.run]: race is 'yes'; write true or false"),
        ("[tool.gradkernels.run]\nsizes = true", "sizes is True; write text, a number or a list of them"),
        ("[tool.gradkernels.run]\nsizes = {a = 1}", "sizes is {'a': 1}; write text, a number or a list of them"),
        ("[tool.gradkernels.fastest]\ncalls = 'many'", " (pyproject.toml, [tool.gradkernels.fastest])\n"),
        ("[tool.gradkernels.fastest]\nhelp = true", "there is no option 'help'"),
        ("[tool.gradkernels.fastest", "pyproject.toml: not a TOML file ("),
    ],
)
def test_what_means_nothing_is_named_with_file_and_key(here, capsys, text, says):
    code, out, err = said(text, "fastest", "x.csv", capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith("gradkernels: ")
    assert err.count("\n") == 1
    assert says in err


def test_help_is_there_whatever_the_file_says(here, capsys):
    assert said("[tool.gradkernels.rnu]\nx = 1", "run", "--help", capsys=capsys)[0] == 0


def test_thresholds_of_compare_are_no_options(here, capsys):
    text = '[tool.gradkernels.compare]\ndelta = "2%"\nfail-slower = "5%"\nformat = "json"\n'
    code, out, _ = said(text, "compare", "x.csv", "x.csv", "--force", capsys=capsys)
    assert code in (0, 3, 5)
    assert json.loads(out)["delta"] == 0.02


def test_the_reader_of_thresholds_knows_the_options_of_compare():
    command = typer.main.get_command(app).commands["compare"]
    options = {option.lstrip("-") for one in command.params for option in one.opts if option.startswith("--")}
    assert {*COMMAND_OPTIONS, *KEYS} - {"overrides"} == options


def test_underscores_are_dashes_and_lists_are_commas(here, capsys):
    text = "[tool.gradkernels.run]\nmax_bytes = '1GB'\nsizes = [10, 20]\nfeatures = 0\n"
    code, _, err = said(text, "run", "--kernel", "numpy.matmul", capsys=capsys)
    assert code == 2
    assert "--features 0: '0' is not a whole number from 1" in err


def test_the_home_folder_is_meant_by_its_sign(here, capsys):
    assert with_home_folder(["~/x", "--out=~/y", "--sep", "~", "a~b", "--sep=~"]) == [
        f"{here}/x", f"--out={here}/y", "--sep", "~", "a~b", "--sep=~",
    ]  # fmt: skip
    (here / "sub").mkdir()
    (here / "x.csv").rename(here / "sub" / "x.csv")
    assert main(["fastest", "~/sub/x.csv", "--format=csv"]) == 0
    text = '[tool.gradkernels.compare]\nthresholds = "~/sub/none.toml"\n'
    assert f"{here}/sub/none.toml" in said(text, "compare", "~/sub/x.csv", "~/sub/x.csv", capsys=capsys)[2]
