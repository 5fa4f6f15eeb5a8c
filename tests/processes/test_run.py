"""The main job as a person runs it: real child processes, real crashes, real kills."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from gradkernels.bench.cli import main
from gradkernels.bench.cli.commands import run as run_command
from gradkernels.bench.isolation.limits import DEFAULT_LIMITS, ProcessLimits
from gradkernels.bench.isolation.messages import decode, encode
from gradkernels.bench.results.results_file import mend
from gradkernels.bench.run.messages import Orders, PeakMeasured
from gradkernels.bench.run.one_pass import OnePass
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.session import Schedule
from gradkernels.key import Key
from gradkernels.record import COLUMNS, read

QUICK = ["--kernel", "numpy.broadcast", "--quantity", "gradient,norms", "--sizes", "10,100", "--budget", "1s"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def two_passes(tmp_path_factory):
    """The folder of a run, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    with redirect_stdout(StringIO()) as printed:
        assert main(["run", *QUICK, "--passes", "2", "--out", str(folder / "out" / "x.csv")]) == 0
    return folder / "out", printed.getvalue()


@pytest.fixture
def measured_here(two_passes, here):
    """A copy of that run's file."""
    return Path(shutil.copy(two_passes[0] / "x.csv", "x.csv"))


def measured(rows):
    """What a row is about, without its times."""
    return [(row.kernel, row.case.n, row.pass_, row.measurement.status) for row in rows]


def test_a_run_writes_proven_rows_prints_winners_and_draws_the_picture(two_passes):
    folder, printed = two_passes
    rows = read(folder / "x.csv")
    expected = {
        (kernel, n, pass_, "ok")
        for n in (10, 100)
        for pass_ in (1, 2)
        for kernel in ("numpy.broadcast+.gradient", "numpy.broadcast+.norms", "control", "canary", "bandwidth.read")
    }
    assert set(measured(rows)) == expected
    assert len(rows) == len(expected) + 12  # the yardsticks race once per quantity
    for row in rows:
        assert row.measurement.error <= row.measurement.tolerance
        assert (
            row.measurement.seconds_min
            <= row.measurement.seconds_q25
            <= row.measurement.seconds_median
            <= row.measurement.seconds_q75
        )
        assert row.measurement.rounds >= 3
        assert row.measurement.iterations >= 1
    assert (folder / "x.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")
    assert "gradient of linear, 1 feature, float64, 1 thread" in printed
    assert "of limit" in printed
    assert "numpy.broadcast+" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--out", "x.png"), "--out x.png: the results are CSV, and their picture would be x.png too; end it in .csv"),
        (("--out", "photo.csv"), "the picture photo.png is there already; replace it with --force or name another"),
        (("--out", "x.csv", "--plot", "./x.csv"), "--plot x.csv: pictures end in .png, .svg, .pdf (also "),
        (("--out", "x.svg", "--plot", "./x.svg"), "--out and --plot are both x.svg; name two files"),
        (("--out", "x.csv", "--plot", "x"), "--plot x: pictures end in .png, .svg, .pdf (also "),
        (("--out", "x.csv", "--plot", "photo.png"), "--plot photo.png is there already; replace it with --force"),
        (("--out", "x.csv", "--plot", "."), "--plot . is a folder; name a file in it"),
        (("--out", "x.csv", "--plot", "photo.png/x.png"), "--plot photo.png/x.png: cannot write to "),
        (("--kind", "estimate"), "estimate is the picture of an estimate's CSV, not of a run; kinds of a run: time, "),
        (("--baseline", "numpy.matmul"), "a baseline (numpy.matmul) means nothing for time; it is for speed and "),
        (
            ("--kind", "speed", "--baseline", "torch.vmap"),
            "--baseline torch.vmap, to compare with in the picture: there is no kernel 'torch.vmap'; known: numpy.br",
        ),
        (("--kind", "break-even", "--calls", "9"), "9 calls mean nothing for break-even, which shows how many are "),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_measuring(here, capsys, arguments, says):
    Path("photo.png").write_text("mine")
    assert main(["run", *QUICK, *arguments]) == 2
    assert f"gradkernels: {says}" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["photo.png"]
    assert Path("photo.png").read_text() == "mine"


PACE = run_command.Pace(Schedule(8, 1.0, "1s"), race=False, limits=ProcessLimits())


def test_a_reader_that_has_gone_costs_no_picture(measured_here, monkeypatch):
    def closed(*given):
        raise SystemExit(1)  # as rich ends where a pipe is closed

    monkeypatch.setattr(run_command, "print_ranking", closed)
    with pytest.raises(SystemExit):
        run_command._conclude(read("x.csv"), measured_here, Path("x.png"), PACE)
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_without_room_is_told_after_the_tables(measured_here, monkeypatch, capsys):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(run_command, "write_whole", full)
    with pytest.raises(OSError, match="No space left on device: 'x.png'"):
        run_command._conclude(read("x.csv"), measured_here, Path("x.png"), PACE)
    printed = capsys.readouterr().out
    assert "numpy.broadcast+" in printed
    assert "rows in x.csv\n" in printed


def test_a_picture_goes_into_a_folder_that_is_made_for_it(here):
    arguments = ["--kernel", "numpy.matmul", "--sizes", "10", "--budget", "1s", "--passes", "1"]
    assert main(["run", *arguments, "--quantity", "gradient", "--out", "x.csv", "--plot", "new/x.svg"]) == 0
    assert Path("new/x.svg").read_bytes().startswith(b"<?xml")


def test_the_picture_is_of_the_kind_that_is_asked_for(here):
    arguments = ["run", "--kernel", "numpy.matmul,numpy.loop", "--sizes", "10", "--budget", "1s", "--passes", "1"]
    arguments += ["--quantity", "gradient", "--out", "x.csv"]
    assert main([*arguments, "--plot", "x.svg", "--kind", "speed", "--baseline", "numpy.loop"]) == 0
    assert "numpy.loop" in Path("x.svg").read_text()
    assert "Times as fast as" in Path("x.svg").read_text()


def test_a_picture_that_shows_nothing_is_told_after_the_tables(measured_here, capsys):
    rows = [replace(row, measurement=replace(row.measurement, peak_bytes=None)) for row in read("x.csv")]
    pace = replace(PACE, shown=run_command.ShownWinners(kind=run_command.PictureKind.memory))
    with pytest.raises(
        ValueError, match="^no picture of memory: no row has a peak_bytes .*; the results are in x.csv$"
    ):
        run_command._conclude(rows, Path("x.csv"), Path("x.png"), pace)
    assert "rows in x.csv\n" in capsys.readouterr().out


def test_every_row_of_a_kernel_has_its_least_bytes_and_a_time_its_limit(here):
    arguments = ["run", "--kernel", "numpy.loop", "--kernel", "numpy.broadcast", "--quantity", "per_sample"]
    assert main([*arguments, "--sizes", "100,2e5", "--budget", "4s", "--passes", "1", "--out", "x.csv"]) == 0
    rows = {(row.kernel, row.case.n): row for row in read("x.csv")}
    # Theta 2, x and y 2 n, the result 2 n numbers of 8 bytes.
    for kernel in ("numpy.broadcast.per_sample", "numpy.broadcast.per_sample@out", "numpy.loop.per_sample"):
        assert rows[kernel, 100].measurement.least_bytes == 16 + 32 * 100
    assert rows["numpy.loop.per_sample", 200_000].measurement.status == "timeout"
    assert rows["numpy.loop.per_sample", 200_000].measurement.least_bytes == 16 + 32 * 200_000
    for name, least in (("read", 16 + 16 * 200_000), ("write", 16 * 200_000), ("copy", 16 + 32 * 200_000)):
        assert rows[f"bandwidth.{name}", 200_000].measurement.least_bytes == least
    fresh, given = rows["numpy.broadcast.per_sample", 200_000], rows["numpy.broadcast.per_sample@out", 200_000]
    # 3.2 MB: the next call may get the same memory again, so that its limit is that of given memory.
    assert (
        fresh.measurement.limit_seconds
        == given.measurement.limit_seconds
        == rows["bandwidth.copy", 200_000].measurement.seconds_q25
    )
    assert ("bandwidth.fresh", 200_000) not in rows
    # In a cache: the least bytes at the speed at which 256 KiB are read.
    small = rows["bandwidth.read", 100]
    assert small.measurement.least_bytes == 2**18
    assert ("bandwidth.copy", 100) not in rows
    share = 3216 / 2**18
    assert rows["numpy.broadcast.per_sample", 100].measurement.limit_seconds == pytest.approx(
        share * small.measurement.seconds_q25
    )


def test_rows_say_what_was_measured(here):
    settings = ["--dtype", "float32", "--layout", "F", "--features", "3", "--no-intercept", "--seed", "7"]
    assert main(["run", *QUICK, *settings, "--passes", "1", "--out", "x.csv"]) == 0
    row = read("x.csv")[-1]
    assert (
        row.case.problem,
        row.case.dtype,
        row.case.layout,
        row.case.features,
        row.parameters,
        row.seed,
        row.case.threads,
    ) == (("linear(fit_intercept=False)", "float32", "F", 3, 3, 7, 1))


def test_real_data_is_named_in_the_rows_and_its_size_is_the_last(here):
    assert main(["run", "--data", "diabetes", *QUICK[:4], "--budget", "1s", "--passes", "1", "--out", "x.csv"]) == 0
    rows = read("x.csv")
    assert {(row.case.problem, row.case.features, row.case.n) for row in rows} == {
        ("linear/diabetes", 10, n) for n in (10, 100, 442)
    }


def test_a_loop_that_cannot_finish_is_skipped_with_the_reason_in_its_row(here, capsys):
    wide = ["--kernel", "numpy.loop", "--quantity", "per_sample", "--sizes", "1e5", "--budget", "1s", "--passes", "1"]
    assert main(["run", *wide, "--out", "x.csv"]) == 0
    (row,) = [row for row in read("x.csv") if not Key.parse(row.kernel).is_yardstick]
    assert row.measurement.status == "timeout"
    assert "too slow for the budget: a call would take about" in row.measurement.reason
    assert row.measurement.seconds_median is None
    assert "numpy.loop.per_sample at n = 100,000: too slow for the budget" in capsys.readouterr().out


def test_resuming_measures_what_is_missing_and_nothing_twice(measured_here):
    arguments = ["run", *QUICK, "--passes", "2", "--out", "x.csv"]
    path = measured_here
    whole = path.read_text().splitlines(keepends=True)
    kept = whole[:6]
    path.write_text("".join(kept) + whole[6][:40])  # a killed writer leaves half a row
    assert main([*arguments, "--resume"]) == 0
    assert path.read_text().splitlines(keepends=True)[:6] == kept
    rows = [row for row in read(path) if not Key.parse(row.kernel).is_yardstick]
    assert len(rows) == len({(row.kernel, row.case.n, row.pass_) for row in rows}) == 8
    assert len({row.run for row in rows}) == 1
    again = path.read_text()
    assert main([*arguments, "--resume"]) == 0
    assert path.read_text() == again


def test_resuming_with_other_options_is_refused_and_the_file_kept(measured_here, capsys):
    before = measured_here.read_text()
    for other, says in (
        (["--quantity", "norms,gradient", "--sizes", "10"], "has rows of numpy.broadcast+.gradient"),
        (["--kernel", "numpy.loop"], "has no row of numpy.loop+"),
        (["--sizes", "10,100,1000"], "has no row of"),
        (["--dtype", "float32"], "has "),
    ):
        assert main(["run", *QUICK, *other, "--passes", "3", "--out", "x.csv", "--resume"]) == 2
        assert says in capsys.readouterr().err
    assert Path("x.csv").read_text() == before


def test_resuming_on_another_machine_is_refused_and_the_file_kept(measured_here, capsys):
    other = Path("x.csv").read_text().replace(read("x.csv")[0].machine, "another-machine")
    Path("x.csv").write_text(other)
    assert main(["run", *QUICK, "--passes", "3", "--out", "x.csv", "--resume"]) == 2
    assert "measured with machine 'another-machine'" in capsys.readouterr().err
    assert Path("x.csv").read_text() == other


def test_a_killed_run_loses_nothing_that_was_written_and_leaves_no_child(here):
    command = [sys.executable, "-m", "gradkernels", "run", *QUICK, "--passes", "50", "--out", "x.csv"]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = here / "x.csv"
    deadline = time.monotonic() + 60
    while (not path.exists() or path.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    mend(path)
    assert len(read(path)) >= 3
    until = time.monotonic() + 10
    while (left := children_in(here)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def children_in(folder):
    """Measuring processes whose working folder is `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.readlink(process / "cwd") == str(folder)
                and b"gradkernels.bench.run.worker" in (process / "cmdline").read_bytes()
            ):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_what_is_measured_is_what_was_called_whatever_the_folder_holds(here):
    for name in ("gradkernels", "json"):
        (here / name).mkdir()
        (here / name / "__init__.py").write_text("raise RuntimeError('not this one')")
    assert main(["run", *QUICK, "--passes", "1", "--out", "x.csv"]) == 0
    assert {row.measurement.status for row in read("x.csv")} == {"ok"}


def test_a_row_of_a_case_that_there_is_not_is_refused():
    plan = Plan("linear", ("numpy.broadcast+.norms",), (10, 100))
    heard = []
    one = OnePass(plan, Orders(plan, 1, 0.0, 1.0, "1s"), DEFAULT_LIMITS, set(), {}, lambda *one: heard.append(one))
    with pytest.raises(ValueError, match="there is no case -1"):
        one._hear(PeakMeasured(-1, "numpy.broadcast+.norms", 1))
    assert not heard


def test_a_plan_travels_in_the_orders():
    plan = Plan("linear", ("numpy.broadcast+.norms",), (10, 100), features=3, dtype="float32", data=7)
    orders = Orders(plan, 1, 0.5, 1.0, "1s", ((0, "numpy.broadcast+.norms"),), (1, "numpy.broadcast+.norms"))
    assert decode(encode(orders), (Orders,)) == orders
    assert [(case.n, case.features, case.quantity.name) for case in plan.cases] == [(10, 3, "norms"), (100, 3, "norms")]


def test_a_problem_of_ones_own_is_found_by_module_and_factory(here):
    source = "import gradkernels as gk\ndef make():\n    return gk.LinearRegression(fit_intercept=False)\n"
    Path("mine.py").write_text(source)
    assert main(["run", "--problem", "mine:make", *QUICK, "--passes", "1", "--out", "x.csv"]) == 0
    assert {row.case.problem for row in read("x.csv")} == {"linear(fit_intercept=False)"}


def test_fastest_prints_every_format_and_saves(here, capsys, monkeypatch):
    monkeypatch.setenv("GRADKERNELS_WISDOM", str(here / "wisdom.json"))
    assert main(["run", "--kernel", "numpy.*", *QUICK[2:], "--budget", "2s", "--passes", "2", "--out", "x.csv"]) == 0
    capsys.readouterr()
    assert main(["fastest", "x.csv", "--quantity", "gradient", "--format", "markdown"]) == 0
    assert "| n | winner | time |" in capsys.readouterr().out
    assert main(["fastest", "x.csv", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("machine,problem,quantity,n,features,dtype,layout,device,threads,place,kernel,")
    assert sum(",1,numpy." in line for line in lines) >= 4
    assert main(["fastest", "x.csv", "--save"]) == 0
    assert "saved as this machine's choice" in capsys.readouterr().err
    assert main(["fastest"]) == 0
    captured = capsys.readouterr()
    assert "numpy.matmul" in captured.out
    assert "from this machine's saved wisdom" in captured.err


BAD = {
    "sizes": (["run", "--sizes", "many"], "'many' is not a number"),
    "kernel": (["run", "--kernel", "numpy.brodcast"], "did you mean numpy.broadcast"),
    "problem": (["run", "--problem", "liner"], "did you mean linear"),
    "factory": (["run", "--problem", "nowhere:make"], "No module named 'nowhere'"),
    "quantity": (["run", "--quantity", "norm"], "did you mean norms"),
    "dtype": (["run", "--dtype", "float16"], "there is no dtype 'float16'"),
    "layout": (["run", "--layout", "Z"], "there is no layout 'Z'"),
    "device": (["run", "--device", "tpu"], "there is no device 'tpu'"),
    "threads": (["run", "--threads", "0"], "--threads 0: '0' is not a whole number from 1"),
    "features": (["run", "--features", "0"], "--features 0: '0' is not a whole number from 1"),
    "all and one": (
        ["run", "--quantity", "all,norms"],
        "--quantity all,norms: all stands for every quantity; give it ",
    ),
    "passes": (["run", "--passes", "0"], "--passes 0"),
    "budget": (["run", "--budget", "soon"], "--budget 'soon'"),
    "timeout": (["run", "--timeout", "0"], "--timeout '0': it must be a positive time"),
    "memory": (["run", "--max-bytes", "lots"], "--max-bytes 'lots': write bytes, or a number with B, kB, MB"),
    "no memory": (["run", "--max-bytes", "0GB"], "--max-bytes '0GB': it must be at least 1 byte"),
    "missing data": (["run", "--data", "nowhere.csv", "--target", "y"], "nowhere.csv"),
    "target alone": (["run", "--target", "y"], "--target was given without --data"),
    "beyond the data": (["run", "--data", "diabetes", "--sizes", "1000"], "--resample"),
    "features of data": (["run", "--data", "diabetes", "--features", "3"], "leave --features out"),
    "folder": (["run", "--out", "."], "is a folder"),
    "resume what": (["run", "--resume"], "--resume needs the file"),
    "both": (["run", "--resume", "--force", "--out", "x.csv"], "both given"),
    "no such option": (["run", "--colour"], "No such option"),
    "no such command": (["rum"], "No such command"),
    "fastest nothing": (["fastest", "--save"], "--save needs a results file"),
    "fastest missing": (["fastest", "nowhere.csv"], "nowhere.csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_code_2_and_nothing_written(name, here, capsys):
    arguments, says = BAD[name]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("gradkernels: ")
    assert error.count("\n") == 1
    assert not list(here.iterdir())


NO_CUDA = "torch sees no CUDA device on this machine; leave --device out for the CPU"


@pytest.mark.parametrize("command", [["run"], ["ab"], ["run", "--problem", "gradkernels.zoo:mlp"]])
@pytest.mark.parametrize(
    ("device", "devices", "says"),
    [
        ("cuda", 0, NO_CUDA),
        ("cuda:7", 0, NO_CUDA),
        ("cuda:2", 2, "torch sees 2 CUDA devices on this machine; leave --device out for the CPU"),
        ("cuda:x", 1, "torch sees 1 CUDA device on this machine; leave --device out for the CPU"),
        ("mps", 0, "there is no device 'mps'; known: cpu, cuda"),
        ("banana", 0, "there is no device 'banana'; known: cpu, cuda"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_a_sentence(here, capsys, monkeypatch, command, device, devices, says):
    monkeypatch.setattr("torch.cuda.device_count", lambda: devices)
    assert main([*command, "--device", device]) == 2
    assert capsys.readouterr().err == f"gradkernels: --device {device}: {says}\n"
    assert not list(here.iterdir())


ONE_PASS = ["run", "--kernel", "numpy.matmul", "--quantity", "gradient", "--passes", "1", "--budget", "1s"]


def test_a_size_larger_than_any_memory_gets_its_row(here, capsys):
    assert main([*ONE_PASS, "--sizes", "1e9", "--features", "1000", "--out", "x.csv"]) == 0
    (row,) = (row.measurement for row in read("x.csv"))
    assert row.status == "failed"
    assert row.reason.startswith("out of memory: MemoryError: Unable to allocate 7.28 TiB")


def test_more_features_than_any_memory_holds_are_refused_in_a_sentence(here, capsys):
    assert main([*ONE_PASS, "--sizes", "10", "--features", "1000000000000", "--out", "x.csv"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradkernels: out of memory: Unable to allocate ")
    assert error.endswith("; ask for fewer samples or features\n")
    assert not list(here.iterdir())


def test_an_existing_file_is_kept_unless_it_may_be_replaced(here, capsys):
    Path("x.csv").write_text("precious")
    assert main(["run", *QUICK, "--out", "x.csv"]) == 2
    assert "x.csv is there already" in capsys.readouterr().err
    assert main(["run", *QUICK, "--out", "x.csv", "--resume"]) == 2
    assert "line 1" in capsys.readouterr().err
    assert Path("x.csv").read_text() == "precious"
    assert main(["run", *QUICK, "--passes", "1", "--out", "x.csv", "--force"]) == 0
    assert len(read("x.csv")) == 16


def test_a_malformed_results_file_names_line_and_column(measured_here, capsys):
    lines = Path("x.csv").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace(",10,", ",ten,", 1)
    Path("x.csv").write_text("".join(lines))
    capsys.readouterr()
    assert main(["fastest", "x.csv"]) == 2
    assert capsys.readouterr().err == "gradkernels: x.csv, line 3, column n: 'ten' is not a number\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(here, capsys):
    (here / "locked").mkdir(mode=0o500)
    assert main(["run", *QUICK, "--out", "locked/x.csv"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_folder_is_refused(here, capsys):
    Path("x").write_text("a file")
    assert main(["run", *QUICK, "--out", "x/y.csv"]) == 2
    assert capsys.readouterr().err.startswith("gradkernels: ")
