"""What is left computing beside the timing: it is seen, also on a machine so busy that it gets no core."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gradkernels.bench.timing import background
from gradkernels.bench.timing.background import BackgroundLoad

pytestmark = pytest.mark.skipif(not background.TASKS.exists(), reason="Linux tells what threads do")


@pytest.fixture
def child():
    """A function that starts a process which says that it is there and then does something."""
    started = []

    def start(then):
        process = subprocess.Popen([sys.executable, "-c", f"print(1, flush=True)\n{then}"], stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_that_computes_is_seen_and_one_that_waits_may_stay(child):
    load = BackgroundLoad()
    assert not load.still_running()
    child("import time; time.sleep(600)")
    assert not load.still_running()
    child("while True: pass")
    assert load.still_running()


def test_a_thread_that_computes_is_seen_and_one_that_waits_may_stay():
    load, over = BackgroundLoad(), threading.Event()

    def spin():
        while not over.is_set():
            pass

    threads = [threading.Thread(target=over.wait), threading.Thread(target=spin)]
    try:
        threads[0].start()
        assert not load.still_running()
        threads[1].start()
        assert load.still_running()
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("then", "seen"), [("while True: pass", True), ("import time; time.sleep(600)", False)])
def test_what_has_got_no_core_since_the_last_look_is_seen(child, monkeypatch, then, seen):
    """The system counts a wait for a core when it ends, so that until then neither clock shows anything."""
    load = BackgroundLoad()
    waiting = child(then)
    monkeypatch.setattr(background, "_cpu_seconds", lambda: 0.0)
    monkeypatch.setattr(background, "_waited_seconds", lambda: 0.0)
    while not seen and Path(f"/proc/{waiting.pid}/stat").read_text().split()[2] != "S":
        time.sleep(0.01)
    assert load.still_running() == seen
