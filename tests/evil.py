"""Kernels that go wrong in every way, offered to the registry of a child process as an installed package would.

`install(folder)` writes the metadata that makes this module's kernels discoverable from `folder`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from gradkernels.kernel import declare


def install(folder: Path) -> str:
    """Make the kernels below discoverable; returns the PYTHONPATH that does it."""
    info = folder / "evil-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gradkernels.kernels]\nevil = evil\n")
    return os.pathsep.join([str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


@declare("numpy.wrong.norms")
def wrong(problem):
    return lambda theta, x, y: np.zeros(len(y))


@declare("numpy.raises.norms")
def raises(problem):
    def compute(theta, x, y):
        raise RuntimeError("this kernel\nalways fails")

    return compute


@declare("numpy.segfault.norms")
def segfault(problem):
    return lambda theta, x, y: ctypes.string_at(0)


@declare("numpy.hang.norms")
def hang(problem):
    return lambda theta, x, y: time.sleep(3600)


@declare("numpy.rubbish.norms")
def rubbish(problem):
    def compute(theta, x, y):
        os.write(1, b'{"message": "KernelMeasured", "rubbish"\n')
        return 1 / 0

    return compute


@declare("numpy.corrupts.norms")
def corrupts(problem):
    def compute(theta, x, y):
        y.flags.writeable = True
        y[:] = 0
        return np.zeros(len(y))

    return compute


def right(problem):
    from gradkernels.registry import kernel

    return kernel("numpy.broadcast+.norms").build(problem)


def after(calls, problem, do):
    """Right for so many calls, then `do(theta, x, y)` once before each."""
    compute, count = right(problem), iter(range(10**9))

    def misbehaving(theta, x, y):
        if next(count) >= calls:
            do(theta, x, y)
        return compute(theta, x, y)

    return misbehaving


MANY = 5
"""Calls after which a kernel has been proven, in three, and is being timed: a busy machine leaves it only five more."""


@declare("numpy.fickle.norms")
def fickle(problem):
    """Right until it has been timed."""
    compute, count = right(problem), iter(range(10**9))
    return lambda theta, x, y: compute(theta, x, y) * (next(count) < MANY)


@declare("numpy.exits.norms")
def exits(problem):
    return lambda theta, x, y: os._exit(0)


@declare("numpy.leaves.norms")
def leaves(problem):
    return lambda theta, x, y: sys.exit("as if I were a script")


@declare("numpy.interrupts.norms")
def interrupts(problem):
    def compute(theta, x, y):
        raise KeyboardInterrupt

    return compute


@declare("numpy.unspeakable.norms")
def unspeakable(problem):
    class Unspeakable(Exception):
        def __str__(self):
            raise RuntimeError("no message either")

    def compute(theta, x, y):
        raise Unspeakable

    return compute


@declare("numpy.aborts.norms")
def aborts(problem):
    return lambda theta, x, y: os.abort()


@declare("numpy.greedy.norms")
def greedy(problem):
    """Takes memory until there is none."""

    def compute(theta, x, y):
        hoard = []
        while True:
            hoard.append(np.empty(2**22))

    return compute


HOARD = []


@declare("numpy.hoards.norms")
def hoards(problem):
    """Takes memory until there is none, keeps it and is right: others fail."""
    compute = right(problem)

    def hoarding(theta, x, y):
        result = compute(theta, x, y)
        try:
            size = 2**22
            while size > 8:
                try:
                    HOARD.append(np.empty(size))
                except MemoryError:
                    size //= 2
        except MemoryError:
            pass
        return result

    return hoarding


@declare("numpy.floods.norms")
def floods(problem):
    """Writes fifty million bytes to each output, without a line break."""
    for descriptor in (1, 2):
        for _ in range(50):
            os.write(descriptor, b"x" * 10**6)
    return right(problem)


@declare("numpy.closes.norms")
def closes(problem):
    compute = right(problem)

    def closing(theta, x, y):
        os.closerange(3, 256)
        return compute(theta, x, y)

    return closing


@declare("numpy.forks.norms")
def forks(problem):
    """Forks a process that stays, and one that goes on as if it were the first."""
    if os.fork() == 0:
        time.sleep(3600)
    os.fork()
    return right(problem)


@declare("numpy.spins.norms")
def spins(problem):
    def spin():
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()
    return right(problem)


@declare("numpy.breeds.norms")
def breeds(problem):
    """Leaves a process running that computes for ever."""
    if os.fork() == 0:
        while True:
            pass
    return right(problem)


@declare("numpy.unbinds.norms")
def unbinds(problem):
    """Takes all cores that there are, while it is timed."""
    return after(MANY, problem, lambda *_: os.sched_setaffinity(0, range(os.cpu_count())))


@declare("numpy.idles.norms")
def idles(problem):
    """Leaves a thread that waits, as pools do, and that would keep the process from ending."""
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return right(problem)


@declare("numpy.moves.norms")
def moves(problem):
    os.chdir("/")
    os.environ.clear()
    sys.stdout = sys.stderr = None
    return right(problem)


@declare("numpy.warns.norms")
def warns(problem):
    """Makes every warning, and every rounding, an error for all."""
    warnings.simplefilter("error")
    np.seterr(all="raise")
    np.random.seed(0)  # noqa: NPY002
    return right(problem)


@declare("numpy.raises_late.norms")
def raises_late(problem):
    def fail(theta, x, y):
        raise RuntimeError("enough")

    return after(MANY, problem, fail)


@declare("numpy.segfaults_late.norms")
def segfaults_late(problem):
    return after(MANY, problem, lambda theta, x, y: ctypes.string_at(0))


@declare("numpy.hangs_late.norms")
def hangs_late(problem):
    return after(MANY, problem, lambda theta, x, y: time.sleep(3600))


@declare("numpy.corrupts_late.norms")
def corrupts_late(problem):
    def corrupt(theta, x, y):
        y.flags.writeable = True
        y[0] += 1

    return after(MANY, problem, corrupt)


@declare("numpy.scribbles.norms")
def scribbles(problem):
    """Writes over whatever file is open, so that nobody knows whose turn it was, and ends the process."""

    def scribble(theta, x, y):
        for descriptor in range(3, 64):
            with suppress(OSError):
                os.pwrite(descriptor, b"\x7f" * 24, 0)
        os.kill(os.getpid(), signal.SIGSEGV)

    return after(MANY, problem, scribble)


@declare("numpy.forges.norms")
def forges(problem):
    """Looks for the pipe to the parent and writes what is none of its business."""

    def forge(theta, x, y):
        for descriptor in range(3, 64):
            try:
                os.write(
                    descriptor,
                    b'{"message": "KernelMeasured", "case": 99, "measurement": {"kernel": "numpy.broadcast+.norms", '
                    b'"backend": "numpy", "status": "failed"}}\n',
                )
            except OSError:
                continue

    return after(MANY, problem, forge)


@declare("numpy.alarms.norms")
def alarms(problem):
    """Has the system end the process soon, whoever is at work then."""
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    return right(problem)
