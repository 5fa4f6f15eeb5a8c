"""A run survives its kernels, the machine and the person: real crashes, real kills, real full disks."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import evil
import measured
import pytest
from room import no_room_beyond

from gradkernels.bench.cli import main
from gradkernels.bench.results.results_file import mend
from gradkernels.key import Key
from gradkernels.record import COLUMNS, HEADER, Malformed, line, read

# As in a terminal: what runs in the background ignores SIGINT, and so would its children.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from gradkernels.__main__ import main
sys.exit(main())
"""
RUN = [sys.executable, "-c", START, "run"]
SMALL = ["--kernel", "numpy.broadcast", "--quantity", "norms", "--sizes", "10,100"]
LONG = ["--budget", "1h", "--passes", "400"]
BRIEF = ["--budget", "1s", "--passes", "1"]
PATIENCE = 60


@pytest.fixture
def scratch(tmp_path):
    """Where the temporary files of runs go, and nobody else's: no file and no process stays behind."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    wait_until(lambda: not measuring(folder))
    assert not list(folder.iterdir())


@pytest.fixture
def here(tmp_path, monkeypatch, scratch):
    """An empty working folder, in which no hidden file stays behind."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert not list(folder.rglob(".*"))


def variables():
    """Those of this process, with the `scratch` that lies beside `here`."""
    return {**os.environ, "TMPDIR": str(Path.cwd().parent / "scratch")}


@contextmanager
def started(*arguments, rows=0, path=Path("x.csv")):
    """A run in a session of its own, as from a terminal, that has written so many rows."""
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*RUN, *arguments], **outputs, start_new_session=True, env=variables())
    try:
        wait_until(lambda: not rows or written(path) > rows, process)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ran(*arguments):
    """A run to its end: its exit code, and what it left on standard error."""
    done = subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=PATIENCE, env=variables())
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def written(path=Path("x.csv")):
    """Lines of a file; 0 when it is not there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(true, process=None):
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def measuring(scratch):
    """Measuring processes, and what they have forked, whose temporary files go to `scratch`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"TMPDIR={scratch}\0".encode() in (process / "environ").read_bytes()
            if ours and b"gradkernels.bench.run.worker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def sentence(text):
    """The one sentence that a failed command leaves on standard error after its lines of progress."""
    lines = [line for line in text.splitlines() if not line.startswith(("pass ", "measuring memory"))]
    assert len(lines) == 1, text
    return lines[0].removeprefix("gradkernels: ")


def distinct(rows):
    """Whether each kernel was measured once on each case and pass, and what it is held against once in each process."""
    yard = [Key.parse(row.kernel).is_yardstick for row in rows]
    places = [(row.kernel, row.case, row.pass_, row.block if one else 0) for row, one in zip(rows, yard, strict=True)]
    return len(places) == len(set(places))


EVIL = {
    "wrong": ("wrong", "is 0.0, expected"),
    "raises": ("failed", "RuntimeError: this kernel"),
    "leaves": ("failed", "SystemExit: as if I were a script"),
    "interrupts": ("failed", "KeyboardInterrupt"),
    "unspeakable": ("failed", "Unspeakable: its message cannot be read"),
    "rubbish": ("failed", "ZeroDivisionError: division by zero"),
    "corrupts": ("wrong", "changed its input y"),
    "fickle": ("wrong", "after timing, on fresh inputs: Disagreement"),
    "segfault": ("failed", "the process was ended by SIGSEGV"),
    "aborts": ("failed", "the process was ended by SIGABRT"),
    "exits": ("failed", "the process ended with code 0 before its work was done"),
    "closes": ("failed", "it closed the pipe that its process reports through"),
    "greedy": ("failed", "out of memory: MemoryError: Unable to allocate 32.0 MiB"),
    "hang": ("timeout", "it took longer than --timeout 3 s"),
    "raises_late": ("failed", "RuntimeError: enough"),
    "segfaults_late": ("failed", "the process was ended by SIGSEGV"),
    "scribbles": ("failed", "the process was ended by SIGSEGV"),
    "forges": ("failed", "it wrote into the pipe that its process reports through"),
    "floods": ("ok", ""),
    "forks": ("ok", ""),
    "idles": ("ok", ""),
    "moves": ("ok", ""),
    "warns": ("ok", ""),
}
"""What becomes of kernels that go wrong, each in the company of all others."""

ALONE = {
    "hangs_late": ("timeout", "it took longer than --timeout 3 s"),
    "corrupts_late": ("wrong", "it changed its inputs while it was timed"),
    "spins": ("failed", "it left something running that keeps computing"),
    "unbinds": ("failed", "it changed the cores that its process may use"),
    "breeds": ("failed", "it left something running that keeps computing"),
    "hoards": ("failed", "out of memory"),
    "alarms": ("ok", ""),
}
"""The same, of those that cost everyone a process; all of them take part in one run with --long only."""


def evil_run(folder, names):
    scratch = folder / "scratch"
    scratch.mkdir()
    environment = {**variables(), "PYTHONPATH": evil.install(folder), "TMPDIR": str(scratch)}
    kernels = [part for name in names for part in ("--kernel", f"numpy.{name}")]
    limits = ["--timeout", "3s", "--max-bytes", "400MB"]
    arguments = [*kernels, "--quantity", "norms", "--sizes", "10", *BRIEF, *limits]
    command = [*RUN, *arguments, "--out", "x.csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, env=environment, cwd=folder)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1, done.stderr
    assert f"WRONG, not timed: numpy.{names[0]}.norms at n = 10" in done.stdout
    assert not measuring(scratch)
    assert not list(scratch.iterdir())
    rows = read(folder / "x.csv")
    assert distinct(rows)
    return {row.kernel.split(".")[1].removesuffix("+"): row for row in rows if row.kernel.startswith("numpy.")}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    return evil_run(tmp_path_factory.mktemp("evil"), [*EVIL, "broadcast"])


@pytest.mark.parametrize("name", EVIL)
def test_a_kernel_that_goes_wrong_gets_its_row(company, name):
    status, reason = EVIL[name]
    assert company[name].measurement.status == status
    assert reason in company[name].measurement.reason
    assert (company[name].measurement.seconds_median is not None) == (status == "ok")


def test_the_others_keep_their_times(company):
    assert company["broadcast"].measurement.status == "ok"
    assert company["broadcast"].measurement.seconds_median < 1e-3


def test_what_nobody_saw_a_kernel_do_is_found_out(tmp_path):
    names = ["corrupts_late", "spins", *["unbinds"] * (len(os.sched_getaffinity(0)) > 1)]
    rows = evil_run(tmp_path, [*names, "broadcast"])
    assert {name: (rows[name].measurement.status, rows[name].measurement.reason) for name in names} == {
        name: ALONE[name] for name in names
    }
    assert rows["broadcast"].measurement.status == "ok"


def test_every_way_to_go_wrong_at_once(tmp_path, long):
    if not long:
        pytest.skip("a minute, with --long")
    told = EVIL | ALONE
    rows = evil_run(tmp_path, [*told, "broadcast"])
    assert {name: rows[name].measurement.status for name in told} == {
        name: status for name, (status, _) in told.items()
    }
    assert rows["broadcast"].measurement.status == "ok"


def resident_peak(process):
    """Bytes; 0 when the process has ended."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((1024 * int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")), 0)


def test_memory_that_is_too_little_for_the_libraries_is_told_as_that(here):
    code, told = ran("--kernel", "torch.autograd", *BRIEF, "--sizes", "10", "--max-bytes", "60MB", "--out", "x.csv")
    assert code == 2
    assert sentence(told).startswith("a measuring process could not do its work: out of memory")
    assert sentence(told).endswith("(--max-bytes 60000000)")
    assert not list(here.iterdir())


def test_floods_of_output_are_not_kept(here, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", evil.install(here.parent))
    with started("--kernel", "numpy.floods", *SMALL[2:4], "--sizes", "10", *BRIEF, "--out", "x.csv") as run:
        peak = 0
        while run.poll() is None:
            peak = max(peak, resident_peak(run.pid))
            time.sleep(0.05)
        told = run.stderr.read()
    assert run.returncode == 0
    assert len(told) < 1000
    assert peak < 150e6


def test_ctrl_c_stops_a_run_in_a_sentence_and_resuming_goes_on(here):
    data = ["--data", "notebook", *SMALL, "--sizes", "10,40"]
    with started(*data, *LONG, "--out", "x.csv", rows=3) as run:
        os.killpg(run.pid, signal.SIGINT)
        told = run.communicate(timeout=PATIENCE)[1].decode()
    assert run.returncode == 130
    rows = read("x.csv")
    assert sentence(told) == f"stopped; {len(rows)} rows are in x.csv, and --resume goes on"
    assert ran(*data, *BRIEF, "--out", "x.csv", "--resume")[0] == 0
    again = read("x.csv")
    assert again[: len(rows)] == rows
    assert distinct(again)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_stopped_before_its_first_row_leaves_nothing(here, scratch, number, code):
    with started(*SMALL, *LONG, "--out", "x.csv") as run:
        wait_until(lambda: measuring(scratch), run)
        run.send_signal(number)
        told = run.communicate(timeout=PATIENCE)[1].decode()
    assert (run.returncode, sentence(told)) == (code, "stopped; no row was written")
    assert not list(here.iterdir())


def test_killed_at_any_moment_a_run_loses_no_row_and_measures_none_twice(here, scratch, long):
    draw, rows = random.Random(1), []
    for _ in range(40 if long else 3):
        with started(*SMALL, *LONG, "--out", "x.csv", "--resume", rows=len(rows) + 1) as run:
            time.sleep(draw.uniform(0, 0.5))
            run.send_signal(signal.SIGKILL)
            run.wait()
        wait_until(lambda: not measuring(scratch))
        mend(Path("x.csv"))
        before, rows = rows, read("x.csv")
        assert rows[: len(before)] == before
        assert distinct(rows)


@pytest.mark.parametrize("what", ["SIGINT twice", "SIGTERM", "run and worker", "worker and run"])
def test_however_a_run_ends_the_rest_is_measured_and_nothing_twice(here, scratch, what):
    with started(*SMALL, *LONG, "--out", "x.csv", rows=2) as run:
        wait_until(lambda: measuring(scratch), run)
        kills = [(run.pid, signal.SIGKILL), *((one, signal.SIGKILL) for one in measuring(scratch))]
        if what.startswith("SIG"):
            kills = [(run.pid, getattr(signal, what.split()[0]))] * (2 if "twice" in what else 1)
        for process, number in kills if what != "worker and run" else kills[::-1]:
            with suppress(ProcessLookupError):  # the other's end was its own
                os.kill(process, number)
        run.communicate(timeout=PATIENCE)
    wait_until(lambda: not measuring(scratch))
    mend(Path("x.csv"))
    rows = read("x.csv")
    assert rows
    assert ran(*SMALL, *BRIEF, "--out", "x.csv", "--resume")[0] == 0
    again = read("x.csv")
    assert again[: len(rows)] == rows
    assert distinct(again)
    assert {row.case.n for row in again if row.kernel.startswith("numpy.broadcast") and row.pass_ == 1} == {10, 100}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_ends_while_a_kernel_hangs_leaves_no_process(here, scratch, monkeypatch, number):
    """Neither the one that hangs, which reports nothing, nor what another kernel has forked."""
    monkeypatch.setenv("PYTHONPATH", evil.install(here.parent))
    kernels = ["--kernel", "numpy.forks", "--kernel", "numpy.hang"]
    with started(*kernels, *SMALL[2:4], "--sizes", "10", *LONG, "--timeout", "1h", "--out", "x.csv") as run:
        wait_until(lambda: len(measuring(scratch)) > 1, run)  # it forks once a call
        time.sleep(1)
        assert len(measuring(scratch)) > 1
        run.send_signal(number)
        run.wait(PATIENCE)
        wait_until(lambda: not measuring(scratch))


def test_a_measuring_process_may_be_killed_at_any_moment(here, scratch, long):
    draw, passes, killed = random.Random(2), 20 if long else 4, set()
    with started(*SMALL, "--budget", f"{passes}s", "--passes", str(passes), "--out", "x.csv") as run:
        for _ in range(passes):
            # One each time that it has got further: so it gets to its end, whatever the machine's speed.
            wait_until(lambda: measuring(scratch) or run.poll() is not None)
            time.sleep(draw.uniform(0, 0.6))
            enough = written() + 1
            for process in measuring(scratch):
                os.kill(process, signal.SIGKILL)
                killed.add(process)
            wait_until(lambda enough=enough: written() >= enough or run.poll() is not None)
        assert run.wait(PATIENCE) == 0
    assert killed
    rows = read("x.csv")
    assert distinct(rows)
    assert {row.measurement.status for row in rows} == {"ok"}
    assert sum(row.kernel == "numpy.broadcast+.norms" for row in rows) == 2 * passes


@contextmanager
def small_disk(folder, size):
    """A file system of so many bytes; where it cannot be mounted the test is skipped."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_a_run_in_a_sentence_and_with_room_it_goes_on(here):
    command = [*SMALL, "--budget", "3s", "--passes", "4", "--plot", "x.png", "--out", "disk/x.csv"]
    with small_disk(here / "disk", 2**16) as disk:
        (disk / "ballast").write_bytes(bytes(15 * 2**12))
        code, told = ran(*command)
        full = "disk/x.csv: No space left on device; the rows before are safe, and --resume goes on"
        assert (code, sentence(told)) == (2, full)
        rows = read(disk / "x.csv")
        assert len(rows) > 5
        (disk / "ballast").unlink()
        assert ran(*command, "--resume")[0] == 0
        again = read(disk / "x.csv")
        assert again[: len(rows)] == rows
        assert distinct(again)


def test_without_room_for_a_row_none_of_it_stays(here):
    with no_room_beyond(6000):
        code, told = ran(*SMALL, "--budget", "3s", "--passes", "4", "--out", "x.csv")
    too_large = "x.csv: File too large; the rows before are safe, and --resume goes on"
    assert (code, sentence(told)) == (2, too_large)
    assert len(read("x.csv")) > 5


def test_without_room_for_the_data_nothing_is_measured(here, scratch):
    with no_room_beyond(6000):
        code, told = ran("--data", "diabetes", *SMALL, *BRIEF, "--out", "x.csv")
    assert (code, sentence(told)) == (2, f"a copy of diabetes in {scratch}: File too large")
    assert not list(here.iterdir())


def test_a_folder_that_vanishes_ends_a_run_in_a_sentence(here):
    with started(*SMALL, *LONG, "--out", "out/x.csv", rows=3, path=Path("out/x.csv")) as run:
        shutil.rmtree("out")
        told = run.communicate(timeout=PATIENCE)[1].decode()
    assert run.returncode == 2
    assert sentence(told).startswith("out/x.csv: removed or replaced while a run was writing to it")
    assert not Path("out").exists()


def test_of_two_runs_into_one_file_the_second_is_refused_until_the_first_has_ended(here):
    command = [*SMALL, *BRIEF, "--out", "x.csv"]
    with started(*SMALL, *LONG, "--out", "x.csv", rows=3) as run:
        for mode in ("--resume", "--force"):
            code, told = ran(*command, mode)
            busy = "another run is writing to x.csv; wait for its end, or name another --out"
            assert (code, sentence(told)) == (2, busy)
        run.send_signal(signal.SIGKILL)
        run.wait()
    rows = read("x.csv")
    assert ran(*command, "--resume")[0] == 0
    again = read("x.csv")
    assert again[: len(rows)] == rows
    assert distinct(again)


def test_a_forced_run_costs_nothing_before_it_has_its_first_row(here, scratch):
    old = HEADER + "an old row\n"
    Path("x.csv").write_text(old)
    command = [*SMALL, *LONG, "--out", "x.csv", "--force"]
    assert ran(*command, "--threads", "0")[0] == 2
    with started(*command) as run:
        wait_until(lambda: measuring(scratch), run)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert Path("x.csv").read_text() == old
    with started(*command) as run:
        wait_until(lambda: Path("x.csv").read_text() != old, run)
        assert read("x.csv")


@pytest.mark.parametrize("target", ["/dev/full", "/dev/null"])
def test_what_is_no_file_is_refused(here, target, capsys):
    assert main(["run", *SMALL, "--out", target, "--force"]) == 2
    assert "is no regular file" in capsys.readouterr().err


@pytest.fixture
def record():
    return measured.record(seconds_median=1e-3)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


CODES = ['__import__("os").mkdir("exploded")', pickle.dumps(Bomb(), 0).decode(), "{0.__class__}", '=cmd|" /C calc"!A0']


def test_nothing_in_a_results_file_is_evaluated(here, record, capsys):
    """Code in any column, as Python, as a pickle, as a format or as a formula, is text or refused."""
    for column, code in product(COLUMNS, CODES):
        Path("x.csv").write_text(HEADER + line((record.columns() | {column: code}).values()))
        with suppress(Malformed):
            assert read("x.csv")[0].columns()[column] == " ".join(code.splitlines())
    texts = dict.fromkeys(("run", "cpu", "os", "commit", "kernel", "backend"), CODES[0])
    Path("x.csv").write_text(HEADER + line(measured.cells(measured.changed(record, **texts))))
    for command in (["compare", "x.csv", "x.csv"], ["fastest", "x.csv"], ["run", "--out", "x.csv", "--resume"]):
        main(command)
    assert [path.name for path in here.iterdir()] == ["x.csv"]
    assert "Traceback" not in capsys.readouterr().err
