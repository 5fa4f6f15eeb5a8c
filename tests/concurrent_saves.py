"""Let eight processes save wisdom at the same time, and kill some anywhere: `python concurrent_saves.py SAVES KILLS`.

Each of SAVES points is saved by itself. A process says that a save returned by a line in a file of its own; one that
was killed is followed by another that goes on behind the last such line. Prints what was said, as JSON by process.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.wisdom import MeasuredPoint, Origin, WisdomEntry

WORKERS = 8
CASE = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 1)


def kernel(worker: int) -> str:
    return f"k{worker}.x.norms"


def save_from(said: Path, worker: int, first: int, end: int) -> None:
    file = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for n in range(first, end):
        point = MeasuredPoint(n, 1.0, 0.0, None, Origin("2026-03-01", f"s{worker}", 1))
        wisdom.save((WisdomEntry("desk", CASE, {kernel(worker): (point,)}),))
        os.write(file, f"{n}\n".encode())


def told(said: Path) -> list[int]:
    return [int(line) for line in said.read_text().split()] if said.exists() else []


def start(said: Path, worker: int, end: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        save_from(said, worker, max(told(said), default=0) + 1, end)
        status = 0
    finally:
        os._exit(status)


def main(saves: int, kills: int, folder: Path) -> dict[int, list[int]]:
    rng, end = random.Random(0), saves // WORKERS + 1
    said = {worker: folder / f"{worker}.txt" for worker in range(WORKERS)}
    running = {worker: start(said[worker], worker, end) for worker in said}
    while running:
        time.sleep(rng.uniform(0, 0.02))
        for worker, child in [*running.items()]:
            if os.waitpid(child, os.WNOHANG)[0]:
                del running[worker]
                assert len(told(said[worker])) >= end - 1, f"{worker} has failed"
        if running and kills:
            worker = rng.choice([*running])
            os.kill(running[worker], signal.SIGKILL)
            os.waitpid(running[worker], 0)
            running[worker], kills = start(said[worker], worker, end), kills - 1
    return {worker: told(said[worker]) for worker in said}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(own))))
