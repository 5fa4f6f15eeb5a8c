"""Runs over several workers, of which real ones are really killed: with `--long`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from beside import started

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.isolation.machine_slot import VARIABLE, machine_slot, slot_file
from gradkernels.record import read

OPTIONS = ["run", "--kernel", "numpy.broadcast", "--quantity", "norms", "--sizes", "10,100,1000", "--passes", "2"]


@pytest.fixture(autouse=True)
def here(long, tmp_path, monkeypatch):
    if not long:
        pytest.skip("takes a minute: --long")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require_each_once(path="x.csv"):
    """Each case has both of its passes, once, and was timed."""
    rows = [row for row in read(path) if row.kernel == "numpy.broadcast+.norms"]
    assert Counter((row.case.n, row.pass_) for row in rows) == {(n, i): 1 for n in (10, 100, 1000) for i in (1, 2)}
    assert {row.measurement.status for row in rows} == {"ok"}


def test_a_killed_worker_of_dask_costs_no_case_and_doubles_none():
    pytest.importorskip("distributed")
    killed = []

    def kill(client):
        while not killed:
            busy = [worker for worker, tasks in client.processing().items() if tasks]
            if busy:
                time.sleep(1)
                pid = client.run(os.getpid, workers=busy[:1])[busy[0]]
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.05)

    with gk.cluster(2) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        thread = threading.Thread(target=kill, args=[cluster.get_client()])
        thread.start()
        assert main([*OPTIONS, "--budget", "6s", "--executor", address, "--out", "x.csv"]) == 0
        thread.join()
    assert killed
    require_each_once()


def test_a_killed_scheduler_ends_in_a_sentence_and_resumes(capsys):
    pytest.importorskip("distributed")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    alone = ("--host", "127.0.0.1", "--no-dashboard")
    with (
        started("distributed.cli.dask_scheduler", *alone, "--port", str(port)) as scheduler,
        started("distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", *alone, "--no-nanny"),
    ):
        threading.Thread(target=kill_with_rows, args=[scheduler]).start()
        assert main([*OPTIONS, "--budget", "12s", "--executor", f"dask://127.0.0.1:{port}", "--out", "x.csv"]) == 2
    assert re.search(
        r"not measured by any of 3 workers: .*closed.*; the other rows are in x.csv", capsys.readouterr().err
    )
    assert main([*OPTIONS, "--budget", "4s", "--out", "x.csv", "--resume"]) == 0
    require_each_once()


def kill_with_rows(process):
    """Kill a process as soon as the first case has its rows."""
    while not (Path("x.csv").exists() and Path("x.csv").stat().st_size > 1000):
        time.sleep(0.1)
    process.kill()


def test_a_killed_pool_ends_in_a_sentence_and_resumes():
    asked = ("linear", "norms", "numpy.broadcast", [10, 100, 1000])
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()
        threading.Timer(4, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(OSError, match="not measured by any of 3 workers"):
            gk.run(*asked, budget=30.0, passes=2, executor=pool, out="x.csv")
    assert main([*OPTIONS, "--budget", "4s", "--out", "x.csv", "--resume"]) == 0
    require_each_once()


def test_a_killed_shard_frees_its_machine_is_not_taken_for_whole_and_goes_on(capsys):
    command = [sys.executable, "-m", "gradkernels", *OPTIONS, "--budget", "4s", "--shard", "1/1", "--out", "x.csv"]
    run = subprocess.Popen(command, env={**os.environ, VARIABLE: str(slot_file())}, stderr=subprocess.DEVNULL)
    while not (Path("x.csv").exists() and Path("x.csv").stat().st_size > 1000):
        time.sleep(0.05)
        assert run.poll() is None
    run.kill()
    run.wait()
    start = time.monotonic()
    with machine_slot(alone=True):
        assert time.monotonic() - start < 1
    Path("y.csv").write_bytes(Path("x.csv").read_bytes().rpartition(b"\n")[0] + b"\n")  # a row that is half there
    assert main(["merge", "y.csv", "-o", "part.csv"]) == 0
    assert re.search(r"but not all of their rows\nshard 1/1 has \d of 6 rows: go on with it", capsys.readouterr().out)
    assert subprocess.run([*command, "--resume"], check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert main(["merge", "x.csv", "-o", "whole.csv"]) == 0
    assert "with all of their rows" in capsys.readouterr().out
    require_each_once()
