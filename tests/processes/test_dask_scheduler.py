"""A scheduler that is killed and started anew: a true sentence, then the bits of a run that nothing happened to."""

import os
import signal
import socket
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from beside import started

import gradkernels as gk

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

P = gk.LinearRegression()
ROWS, BLOCKS = 40, 30
THETA, X, Y = P.draw(ROWS * BLOCKS, seed=0, features=3)
LOOPBACK = ("--host", "127.0.0.1")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def scheduler_and_worker(port):
    """Processes of dask's own commands, of which the first is yielded."""
    with (
        started("distributed.cli.dask_scheduler", *LOOPBACK, "--port", str(port), "--no-dashboard") as scheduler,
        started("distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", *LOOPBACK, "--no-dashboard", "--no-nanny"),
    ):
        yield scheduler


def slowly(block, folder):
    """The block, after a while, and a file for each time that it is made."""
    time.sleep(0.1)
    (Path(folder) / uuid.uuid4().hex).touch()
    return block


def quantities(folder):
    x = da.from_array(X, chunks=(ROWS, 3)).map_blocks(slowly, str(folder), dtype=X.dtype, meta=np.empty((0, 0)))
    y = da.from_array(Y, chunks=ROWS)
    return gk.gradient(P, THETA, x, y), *gk.moments(P, THETA, x, y), gk.norms(P, THETA, x, y)


def bits(results):
    return [np.asarray(result).tobytes() for result in results]


def test_a_scheduler_that_is_killed_is_told_and_the_call_gives_all_once_another_is_there(tmp_path, long):
    if not long:
        pytest.skip("processes are started: --long")
    port, before, after = free_port(), tmp_path / "before", tmp_path / "after"
    before.mkdir(), after.mkdir()
    expected = bits(dask.compute(*quantities(tmp_path), scheduler="synchronous"))
    address = f"tcp://127.0.0.1:{port}"
    with scheduler_and_worker(port) as scheduler, distributed.Client(address, timeout=60) as client:
        futures = client.compute(list(quantities(before)))
        deadline = time.monotonic() + 60
        while len(list(before.iterdir())) < BLOCKS // 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(scheduler.pid, signal.SIGKILL)
        with pytest.raises(distributed.client.FutureCancelledError, match="[Cc]lient lost the connection to the sched"):
            client.gather(futures)
    assert len(list(before.iterdir())) < BLOCKS
    with scheduler_and_worker(port), distributed.Client(address, timeout=60):
        assert bits(dask.compute(*quantities(after))) == expected
    assert len(list(after.iterdir())) == BLOCKS
