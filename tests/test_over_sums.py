"""Sums of batches in files: whole after a kill, continued to the same bits, never mixed with those of another call."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from room import no_room_beyond
from test_over import BATCHES, LOADER, MODULE, THETA, N, P
from test_over_files import Interrupted, broken_off

import gradkernels as gk
from gradkernels.batches import sum_files
from gradkernels.tree import leaves

KERNEL = {"kernel": "numpy.broadcast"}
GROUPS = np.arange(N) % 7
SUMS = {
    "gradient": {},
    "moments": {},
    "clipped_sum": {"max_norm": 0.4},
    "weighted_sum": {"weights": np.arange(N) / N},
    "group_sums": {"groups": GROUPS, "count": 7},
    "outer": {"groups": GROUPS},
}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(sum_files, "SAVE_SECONDS", 0)
    monkeypatch.setattr(sum_files, "SHARE", 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sum.npz"


def bits(result):
    return [np.asarray(one).tobytes() for one in leaves(result)]


def note(path):
    with np.load(path, allow_pickle=False) as file:
        return json.loads(file["arr_0"].tobytes())


def summed(name, after=9, **options):
    over = gk.over(broken_off(BATCHES, after))
    return getattr(over, name)(P, THETA, **SUMS[name], **KERNEL, **options)


@pytest.mark.parametrize("name", SUMS)
def test_an_interrupted_sum_goes_on_to_the_same_bits(path, name):
    for after in (2, 4):
        with pytest.raises(Interrupted):
            summed(name, after, checkpoint=path)
        assert note(path)["batches"] == after
    expected = bits(summed(name))
    assert bits(summed(name, checkpoint=path)) == expected
    assert bits(summed(name, checkpoint=str(path))) == expected  # all is there
    assert note(path)["rows"] == N
    assert os.listdir(path.parent) == ["sum.npz"]


def test_sums_of_a_module_keep_their_structure(path):
    expected = LOADER.moments(MODULE)
    LOADER.moments(MODULE, checkpoint=path)
    again = LOADER.moments(MODULE, checkpoint=path)
    assert [type(one) for one in leaves(again)] == [type(one) for one in leaves(expected)]
    assert again.mean.keys() == expected.mean.keys()
    assert bits(again) == bits(expected)


def test_what_is_there_is_computed_for_its_form_alone(path, monkeypatch):
    with pytest.raises(Interrupted):
        summed("gradient", 3, checkpoint=path)
    sizes, add = [], sum_files.Total.__subclasses__()[0].add
    monkeypatch.setattr(sum_files.Total.__subclasses__()[0], "add", lambda s, r, n: sizes.append(n) or add(s, r, n))
    summed("gradient", checkpoint=path)
    assert sizes == [12, 12, 5]  # one for the form, and those that were missing


KILLED = """
import os, signal, sys
import numpy as np
import gradkernels as gk
from gradkernels.batches import sum_files

sum_files.SAVE_SECONDS = sum_files.SHARE = 0
p = gk.LogisticRegression(l2=0.1)
theta, x, y = p.draw(53, seed=1, features=3)

def batches(end):
    for number, start in enumerate(range(0, 53, 12)):
        if number == end:
            os.kill(os.getpid(), signal.SIGKILL)
        yield x[start : start + 12], y[start : start + 12]

over = gk.over(batches(int(sys.argv[2])), prefetch=0)
print(over.gradient(p, theta, kernel="numpy.broadcast", checkpoint=sys.argv[1]).tobytes().hex())
"""


def test_a_killed_process_leaves_a_sum_that_the_next_one_finishes(path, long):
    if not long:
        pytest.skip("starts processes: --long")

    def run(end):
        command = [sys.executable, "-c", KILLED, path, str(end)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert run(3).returncode == -signal.SIGKILL
    assert (note(path)["batches"], note(path)["rows"]) == (3, 36)
    done = run(99)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == summed("gradient").tobytes().hex()


def test_a_full_disk_costs_nothing_that_was_added(path):
    with pytest.raises(Interrupted):
        summed("gradient", 2, checkpoint=path)
    refused = pytest.raises(OSError, match="the batches before stay: make room and call again")
    with no_room_beyond(600), refused:
        summed("gradient", checkpoint=path)
    assert os.listdir(path.parent) == ["sum.npz"]
    assert note(path)["batches"] == 2
    assert bits(summed("gradient", checkpoint=path)) == bits(summed("gradient"))


REFUSED = [
    (
        lambda path: summed("clipped_sum", checkpoint=path),
        "has the sum of another call: max_norm= and quantity are not",
    ),
    (lambda path: gk.over(BATCHES).gradient(P, THETA + 1, **KERNEL, checkpoint=path), "of another call: .*theta"),
    (
        lambda path: gk.over(BATCHES[:3]).gradient(P, THETA, **KERNEL, checkpoint=path),
        "another call: number of batches",
    ),
    (
        lambda path: gk.over(broken_off(BATCHES[::-1], 9)).gradient(P, THETA, **KERNEL, checkpoint=path),
        "the first batch is not what .* has the sum of; pass the same data",
    ),
    (
        lambda path: gk.over(broken_off(BATCHES[:3], 9)).gradient(P, THETA, **KERNEL, checkpoint=path),
        "has 5 batches and there are 3 now",
    ),
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_the_sum_of_another_call_is_refused_and_stays(path, call, says):
    summed("gradient", checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=says):
        call(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["nothing", "half", "pickle", "shape"])
def test_a_file_that_is_no_sum_is_refused_and_nothing_is_unpickled(path, damage):
    summed("gradient", checkpoint=path)
    whole = path.read_bytes()
    with np.load(path) as file:
        said, own = file["arr_0"], file["arr_1"]
    if damage == "shape":
        np.savez(path, said, own[1:])
    elif damage == "pickle":
        np.savez(path, np.array([print]), own)
    else:
        path.write_bytes(whole[: len(whole) // 2 if damage == "half" else 0])
    with pytest.raises(ValueError, match=r"is no sum that can be read|has not the sum of these batches"):
        summed("gradient", checkpoint=path)


def test_what_a_checkpoint_cannot_have_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint is .*sum.bin'; it must be the name of a file that ends in .npz"):
        summed("gradient", checkpoint=tmp_path / "sum.bin")
    with pytest.raises(TypeError, match="norms_out= comes with no checkpoint="):
        gk.over(BATCHES).clipped_sum(P, THETA, norms_out=True, checkpoint=tmp_path / "sum.npz")


def test_each_of_the_batches_counts_once_whenever_the_call_ended(tmp_path):
    ones = gk.LinearRegression(fit_intercept=False)
    batches = [(np.ones((3, 1)), np.full(3, -float(10**i))) for i in range(5)]  # gradients 2 (1 + 10^i)
    for after in range(5):
        path = tmp_path / f"{after}.npz"
        for _ in range(2):
            if after:
                with pytest.raises(Interrupted):
                    gk.over(broken_off(batches, after)).weighted_sum(
                        ones, np.ones(1), lambda x, y: np.ones(3), checkpoint=path
                    )
        total = gk.over(broken_off(batches, 9)).weighted_sum(ones, np.ones(1), lambda x, y: np.ones(3), checkpoint=path)
        assert total.tolist() == [6 * (5 + 11111)]
