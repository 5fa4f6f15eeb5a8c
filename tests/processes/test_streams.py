"""Pipes that nobody reads, full disks, closed streams and signals at odd times: the exit code is right all the same."""

import signal
import subprocess
import sys
import threading

import pytest

from gradkernels import __main__ as program
from gradkernels.bench.isolation.signals import Stopped, stop_on_signals
from gradkernels.record import read

COMMAND = [sys.executable, "-m", "gradkernels"]


def shell(redirection, *arguments, folder=None):
    """The exit code of a command with its streams redirected as a shell does it."""
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments]
    return subprocess.run(line, cwd=folder, timeout=60).returncode


@pytest.mark.parametrize("arguments", [("fastest",), ("fastest", "--format", "csv")])
def test_a_pipe_that_nobody_reads_is_no_failed_proof(arguments):
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in told


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_closed_and_full_streams_leave_the_exit_codes(redirection):
    assert shell(redirection, "fastest", "nofile.csv") == 2


def test_a_full_disk_behind_standard_output_is_told_in_words():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "fastest"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "gradkernels: the output: No space left on device"


def test_nothing_is_printed_into_a_results_file_that_has_the_number_of_a_closed_stream(tmp_path):
    few = ("--kernel", "numpy.matmul", "--quantity", "gradient", "--sizes", "10", "--passes", "1", "--budget", "1s")
    assert shell(">&- 2>&- <&-", "run", *few, "--out", "x.csv", folder=tmp_path) == 0
    assert "numpy.matmul.gradient" in {row.kernel for row in read(tmp_path / "x.csv")}


def test_signals_that_come_at_once_stop_a_run_once_and_are_not_complained_of(monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    both = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        signal.pthread_kill(threading.get_ident(), number)  # no other thread may take it, which blocks none
    with stop_on_signals(), pytest.raises(Stopped):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    assert complaints == []


def test_ctrl_c_while_libraries_load_is_a_sentence(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("gradkernels.bench.cli.main", interrupted)
    assert program.main() == 130
    assert capsys.readouterr().err == "gradkernels: stopped\n"
