"""The command line as a whole: its help, its version, the completion of a shell, and what all that loads."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
import typer

import gradkernels
from gradkernels.backend import FLOATS
from gradkernels.bench.cli import main
from gradkernels.bench.cli.app import COMMANDS, app
from gradkernels.coordinates import DEVICES, LAYOUTS
from gradkernels.problems import REGRESSIONS
from gradkernels.quantity import QUANTITIES

ALL = typer.main.get_command(app).commands


def told(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_the_help_has_a_whole_line_for_each_command(words, capsys):
    lines = told(capsys, *words).splitlines()
    assert max(map(len, lines)) <= 80
    for command in COMMANDS:
        assert f"  {command.name:<{max(len(name) for name in ALL)}}  {command.short_help}" in lines


@pytest.mark.parametrize("name", ALL)
def test_the_help_of_a_command_fits_and_is_whole(name, capsys):
    ALL[name].make_context(name, [], resilient_parsing=True)
    text = told(capsys, name, "-h")
    assert max(map(len, text.splitlines())) <= 80
    whole = " ".join(text.split())
    assert [one.help for one in ALL[name].params if one.help not in whole] == []
    assert text == told(capsys, name, "--help")


@pytest.mark.parametrize(
    ("name", "option", "choices"),
    [
        ("run", "--quantity", QUANTITIES),
        ("run", "--problem", REGRESSIONS),
        ("run", "--dtype", FLOATS),
        ("run", "--layout", LAYOUTS),
        ("run", "--device", DEVICES),
        ("list", "--quantity", QUANTITIES),
        ("compare", "--quantity", QUANTITIES),
    ],
)
def test_choices_are_in_the_help(name, option, choices):
    (help_,) = [one.help for one in ALL[name].params if option in one.opts]
    assert [choice for choice in choices if choice not in help_] == []


@pytest.mark.parametrize("name", ["ab", "compare", "doctor", "estimate", "fastest", "list", "run", "summary"])
def test_every_command_that_prints_a_table_has_the_same_formats(name, capsys):
    assert re.search(r"--format .table\|markdown\|csv\|json.", told(capsys, name, "--help"))


def test_the_version_is_that_of_the_package(capsys):
    assert told(capsys, "--version") == f"gradkernels {gradkernels.__version__}\n"


def test_a_shell_can_complete_commands_and_options(capsys, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert "_GRADKERNELS_COMPLETE=complete_bash" in told(capsys, "--show-completion")
    monkeypatch.setenv("_GRADKERNELS_COMPLETE", "complete_bash")
    for typed, place, found in (("gradkernels fa", 1, "fastest"), ("gradkernels fastest --wi", 2, "--wide")):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(place))
        assert told(capsys).split() == [found]


def test_the_list_of_commands_loads_none_of_them():
    late = "{'numpy', 'scipy', 'pandas', 'torch', 'rich', 'matplotlib', 'pyarrow'}"
    code = "from gradkernels.bench.cli import main\nimport sys\nmain(['--help'])\n"
    done = subprocess.run(
        [sys.executable, "-c", code + f"print({late} & sys.modules.keys())"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_table_is_whole_where_the_output_has_ascii_alone(errors, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii", errors)
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["list"]) == 0
    print("1.5 µs, 2 ×, é, \udcff")
    shown.flush()
    assert shown.buffer.getvalue().endswith(b"1.5 us, 2 x, ?, \xff\n")


def test_what_the_user_says_of_missing_characters_stays(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["--version"]) == 0
    assert shown.errors == "backslashreplace"


def test_a_link_to_itself_is_a_sentence(tmp_path, capsys):
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for words in (["fastest", str(loop)], ["report", str(loop), "-o", str(tmp_path / "r.html")]):
        assert main(words) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith("gradkernels: ")
        assert str(loop) in sentence


def test_a_folder_that_is_gone_is_a_sentence(tmp_path, capsys, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["list"]) == 2
    expected = "gradkernels: the folder that this was started in is gone; go to another\n"
    assert capsys.readouterr().err == expected


def test_a_library_that_is_cut_off_is_no_person_who_stopped(capsys, monkeypatch):
    def cut_off():
        raise EOFError("marshal data too short")  # as of a module whose compiled half is on a full disk

    monkeypatch.setattr("gradkernels.bench.doctor.examine", cut_off)
    assert main(["doctor"]) == 2
    told = capsys.readouterr().err
    assert told == (
        "\ngradkernels: a compiled library or another file is cut off: marshal data too short; install it again\n"
    )
