"""Workers on this machine: reachable from it alone, with the bits of one process, and one that dies changes nothing."""

import os
import signal
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import gradkernels as gk

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

P = gk.LinearRegression()
ROWS, BLOCKS = 40, 30
THETA, X, Y = P.draw(ROWS * BLOCKS, seed=0, features=3)


@pytest.mark.parametrize(("given", "says"), [({"workers": 0}, "workers is 0"), ({"threads": 0}, "threads is 0")])
def test_a_cluster_has_at_least_one_worker_with_one_thread(given, says):
    with pytest.raises(ValueError, match=f"^{says}; it must be at least 1, or None$"):
        gk.cluster(**given)


@pytest.fixture(scope="module")
def cluster(long):
    if not long:
        pytest.skip("processes are started: --long")
    with gk.cluster(2) as started:
        yield started


def slowly(block, seconds, folder):
    """The block, after a while, and a file for each time that it is made."""
    time.sleep(seconds)
    (Path(folder) / uuid.uuid4().hex).touch()
    return block


def quantities(x=None):
    x = da.from_array(X, chunks=(ROWS, 3)) if x is None else x
    y, groups = da.from_array(Y, chunks=ROWS), np.arange(len(Y)) % 7
    return (
        gk.gradient(P, THETA, x, y),
        *gk.moments(P, THETA, x, y),
        gk.clipped_sum(P, THETA, x, y, max_norm=2.0),
        gk.outer(P, THETA, x, y, groups=groups),
        gk.norms(P, THETA, x, y),
    )


def bits(results):
    return [np.asarray(result).tobytes() for result in results]


@pytest.fixture(scope="module")
def expected():
    return bits(dask.compute(*quantities(), scheduler="synchronous"))


def test_workers_are_reached_from_this_machine_alone(cluster):
    psutil = pytest.importorskip("psutil")
    me = psutil.Process()
    listening = {
        one.laddr.ip
        for process in (me, *me.children(recursive=True))
        for one in process.net_connections()
        if one.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}
    assert {worker.nthreads for worker in cluster.workers.values()} == {1}


def test_workers_look_at_themselves_seldom_and_the_users_settings_stay(cluster):
    looks = "distributed.worker.profile.enabled"
    assert set(cluster.get_client().run(dask.config.get, looks).values()) == {False}
    assert dask.config.get(looks) is True


def test_what_is_computed_runs_there_with_the_bits_of_one_process(cluster, expected):
    assert os.getpid() not in dask.compute(dask.delayed(os.getpid)())
    assert bits(dask.compute(*quantities())) == expected
    cluster.scale(3)
    assert bits(dask.compute(*quantities())) == expected


def test_a_worker_that_is_killed_changes_nothing(cluster, expected, tmp_path):
    x = da.from_array(X, chunks=(ROWS, 3)).map_blocks(slowly, 0.1, str(tmp_path), dtype=X.dtype, meta=np.empty((0, 0)))
    client = cluster.get_client()
    pids = client.run(os.getpid)
    futures = client.compute(list(quantities(x)))
    while len(list(tmp_path.iterdir())) < BLOCKS // 3:
        time.sleep(0.01)
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    assert bits(client.gather(futures)) == expected
    assert len(list(tmp_path.iterdir())) > BLOCKS  # what it had was made again


def test_a_bad_block_is_named_from_another_process(cluster):
    x, y = da.from_array(X, chunks=(ROWS, 3)), da.from_array(Y, chunks=ROWS)
    y = da.where(da.arange(len(Y), chunks=ROWS) == 85, np.nan, y)
    with pytest.raises(ValueError, match=r"^block 2 \(samples 80 to 119\): y is NaN in sample 85"):
        gk.gradient(P, THETA, x, y).compute()
