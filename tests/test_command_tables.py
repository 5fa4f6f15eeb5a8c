"""What the commands print on terminals of 80 and of 60 columns, and into pipes: it fits, and no word is broken."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from string import ascii_lowercase

import pytest
from measured import NOISY, STEADY, changed, passes, refused, scaled
from terminals import raw, shown_on

from gradkernels.bench import doctor
from gradkernels.bench.cli import main
from gradkernels.bench.cli.commands import run as run_command
from gradkernels.bench.cli.options import Format
from gradkernels.bench.cli.run_pace import ShownWinners
from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.run.session import Schedule
from gradkernels.quantity import QUANTITIES
from gradkernels.record import HEADER, append, read

RESULTS = Path(__file__).parents[1] / "results"
LONG = "torch.compiled_hooks+.norms"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two small results: long names, a lead, an undecided one, a tie, a timeout, a wrong one."""
    path = tmp_path_factory.mktemp("tables")
    controls = [row for n in (10, 1000, 1_000_000) for row in passes(STEADY, kernel="control", n=n)]
    slow = "too slow for the budget: a call would take about 9 s (1 s at n = 10), and 8 calls do not fit"
    rows = [
        *passes(scaled(STEADY, 2e-5), kernel=LONG, n=10, limit_seconds=1e-5),
        *passes(scaled(STEADY, 3e-5), kernel="numpy.broadcast+.norms", n=10),
        *passes(scaled(STEADY, 2e-3), kernel=LONG, n=1_000_000),
        *passes(scaled(NOISY, 2.1e-3), kernel="numpy.broadcast+.norms", n=1_000_000),
        *passes(scaled(STEADY, 1e-3), kernel=LONG, n=1000),
        *passes(scaled(STEADY, 1.001e-3), kernel="numpy.broadcast+.norms", n=1000),
        *[changed(row, reason=slow) for row in refused("timeout", kernel="torch.loop+.norms", n=1_000_000)],
        *refused("wrong", kernel="torch.vmap+.norms", n=10),
    ]
    for name, factor, run in (("A", 1, "run-a"), ("B", 1.1, "run-b")):
        own = [
            changed(
                row, run=run, seconds_median=row.measurement.seconds_median and factor * row.measurement.seconds_median
            )
            for row in rows
        ]
        (path / f"{name}.csv").write_text(HEADER)
        append(path / f"{name}.csv", [*own, *(changed(row, run=run) for row in controls)])
    return path


FINDINGS = [doctor.Finding("load", "3% of 2 cores over the last minute", "fine, " * 20 + "and no more")]
COMMANDS = {
    "fastest": ["fastest", "{folder}/A.csv"],
    "compare": ["compare", "{folder}/A.csv", "{folder}/B.csv"],
    "list": ["list", "--problem", "linear,softmax", "--kernel", "numpy.*,numba.*,torch.*"],
    "estimate": ["estimate", "--draws", "30", "--batch-sizes", "1,8"],
    "doctor": ["doctor"],
    "fastest-reference": ["fastest", f"{RESULTS}/reference.csv"],
    "fastest-modules": ["fastest", f"{RESULTS}/modules-transformer-1.csv"],
}


@pytest.fixture(params=COMMANDS)
def command(request, folder, monkeypatch):
    """A function that runs a command with more options."""
    monkeypatch.setattr(doctor, "examine", lambda: FINDINGS)
    words = [word.format(folder=folder) for word in COMMANDS[request.param]]
    return lambda *more: main([*words, *more])


def words_of(lines):
    return {word.strip(",:;") for line in lines for word in line.split()}


@pytest.mark.parametrize("width", [80, 60])
def test_lines_fit_the_terminal_and_every_word_is_whole(command, capsys, monkeypatch, width):
    shown = shown_on(width, command)
    assert max(map(len, shown)) <= width
    # What is no terminal gets sentences in one line, so that there each word is whole.
    monkeypatch.setenv("COLUMNS", str(width))
    command()
    assert words_of(shown) == words_of(capsys.readouterr().out.splitlines())


def test_a_pipe_has_no_blanks_at_the_ends_of_lines_and_no_colours(command, capsys):
    command()
    piped = capsys.readouterr().out
    assert [line for line in piped.splitlines() if line != line.rstrip()] == []
    assert "\x1b" not in piped


def lines_of(capsys, *command):
    main(list(command))
    return capsys.readouterr().out.splitlines()


def test_winners_stand_with_time_limit_and_lead_at_80_columns(folder, capsys):
    printed = lines_of(capsys, "fastest", f"{folder}/A.csv")
    assert printed[0] == "norms of linear, 1 feature, float64, 1 thread"
    assert printed[1].split() == ["n", "winner", "time", "of", "limit", "lead", "[99.6%]"]
    rows = {line.split()[0]: line.split()[1:] for line in printed[2:5]}
    assert rows["10"][:5] == ["torch.compiled_hooks+", "20.00", "µs", "50%", "1.50"]
    assert rows["1,000"][4] == "tie"
    assert rows["1,000,000"][4] == "undecided"
    assert "with --wide also: runner-up, x loop, x vmap, x broadcast" in printed
    assert "lead: the runner-up's time over the winner's, and its 99.6% interval over passes" in printed
    assert "of limit: what only moving the data takes here, over the winner's time" in printed
    assert "not timed: torch.loop+.norms at n = 1,000,000: too slow for the budget" in printed
    assert "not timed: torch.vmap+.norms at n = 10: wrong: it is wrong" in printed


def test_wide_has_every_column_and_words_for_what_has_no_time(folder, capsys):
    header, *rows = lines_of(capsys, "fastest", f"{folder}/A.csv", "--wide")[1:5]
    assert header.split("lead [99.6%]")[1].split("  x ")[1:] == ["loop", "vmap", "broadcast"]  # nobody has autograd
    small, _, large = (row.split() for row in rows)
    assert small[-4:] == ["numpy.broadcast+", "-", "wrong", "1.50"]
    assert large[-5:-2] == ["numpy.broadcast+", "too", "slow"]


def test_the_growth_is_told_with_the_fixed_cost(capsys):
    printed = lines_of(capsys, "fastest", f"{RESULTS}/reference.csv", "--quantity", "gradient")
    (line,) = [line for line in printed if "grows" in line]
    assert line.startswith("  numba.fused: about 1.")
    assert " µs a call whatever n, and a part that grows as n^1.10 [95%: 1.06, 1.13] from n = 10 to 1,000,000" in line


def test_a_comparison_has_its_times_and_says_what_a_ratio_is_of(folder, capsys):
    printed = lines_of(capsys, "compare", f"{folder}/A.csv", f"{folder}/B.csv", "--kernel", "numpy.broadcast")
    assert printed[0] == "norms of linear, 1 feature, float64, 1 thread"
    assert printed[1].split() == ["ratio", "(of", "control)"]
    header = ["kernel", "n", "before", "after", "[99.6%", "interval]", "verdict"]
    assert printed[2].split()[: len(header)] == header
    assert printed[3].split()[:6] == ["numpy.broadcast+", "10", "30.00", "µs", "33.00", "µs"]


def test_a_kernel_stands_above_its_rows_where_its_name_leaves_no_room_for_the_ratio(folder):
    shown = shown_on(60, lambda: main(["compare", f"{folder}/A.csv", f"{folder}/B.csv"]))
    assert shown[:2] == [
        "norms of linear, 1 feature, float64, 1 thread",
        " " * shown[1].index("ratio") + "ratio (of control)",
    ]
    assert shown[2].split()[:4] == ["n", "[99.6%", "interval]", "verdict"]
    kernels = [place for place, line in enumerate(shown) if line in ("numpy.broadcast+", "torch.compiled_hooks+")]
    assert len(kernels) == 2
    assert all(line.split()[0] in ("10", "1,000", "1,000,000") for line in shown[kernels[0] + 1 : kernels[0] + 4])


def test_the_winner_is_coloured_and_so_is_what_went_wrong(folder):
    text = raw(80, lambda: main(["fastest", f"{folder}/A.csv"]))
    assert "\x1b[1;38;5;28mtorch.compiled_hooks+\x1b[0m" in text
    assert "\x1b[38;5;130mundecided" in text
    assert "\x1b[1;38;5;160mnot timed: torch.vmap+" in text


def test_regressions_share_a_table_and_a_reason_is_said_once(capsys):
    printed = lines_of(
        capsys, "list", "--problem", "linear,softmax", "--kernel", "numpy.*,torch.*", "--quantity", "gradient,norms"
    )
    assert printed[0] == "linear, softmax"
    assert sum(line.startswith("way ") for line in printed) == 1
    assert (
        sum("computes gradient only; without per-sample gradients nothing else follows" in line for line in printed)
        == 1
    )
    assert len(printed) < 40


def test_quantities_whose_names_are_too_wide_have_letters_in_one_table(capsys):
    printed = lines_of(capsys, "list", "--problem", "linear,softmax", "--kernel", "numpy.*,torch.*")
    (header,) = [line for line in printed if line.startswith("way ")]
    of_losses = [name for name, one in QUANTITIES.items() if not one.of_outputs]
    letters = dict(zip(ascii_lowercase, of_losses, strict=False))
    assert header.split()[: 1 + len(letters)] == ["way", *letters]
    assert printed.count(", ".join(f"{letter} {name}" for letter, name in letters.items())) == 1
    cells = {line.split()[0]: line.split()[1:] for line in printed if line.startswith(("numpy.", "torch."))}
    assert cells["numpy.broadcast"][:2] == ["+", "x"]
    number = cells["torch.autograd"][1]
    assert any(line.split()[:3] == [number, "computes", "gradient"] for line in printed)
    assert not any("(" in "".join(row) for row in cells.values())


@pytest.mark.parametrize("words", [["estimate", "--draws", "30", "--batch-sizes", "1,8"], ["doctor"]])
def test_other_tables_have_the_same_formats(words, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: FINDINGS)
    shown = {}
    for format_ in ("json", "csv", "markdown"):
        assert main([*words, "--format", format_]) == 0
        shown[format_] = capsys.readouterr().out
    rows = json.loads(shown["json"])
    table = list(csv.DictReader(io.StringIO(shown["csv"])))
    assert [list(row) for row in rows] == [list(row) for row in table]
    assert len(rows) == len(table) > 0
    assert "| --" in shown["markdown"]


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
def test_a_run_prints_its_winners_in_every_format(folder, capsys, monkeypatch, format_):
    monkeypatch.setattr(run_command, "_undrawn", lambda *given: None)
    pace = run_command.Pace(Schedule(8, 1.0, "1s"), False, ProcessLimits(1.0), ShownWinners(None, Format(format_)))
    assert run_command._conclude(read(folder / "A.csv"), Path("A.csv"), Path("A.png"), pace) == 1
    shown = capsys.readouterr()
    table, said = (shown.out, shown.out) if format_ == "table" else (shown.out, shown.err)
    assert "torch.compiled_hooks+" in table
    assert "WRONG, not timed: torch.vmap+.norms at n = 10: it is wrong\n" in said
    assert ("rows in A.csv, picture in A.png" in shown.out) == (format_ == "table")
