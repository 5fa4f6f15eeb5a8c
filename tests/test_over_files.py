"""Rows of batches in files: whole after a kill, continued by the same call, and never mixed with those of another."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from room import no_room_beyond
from test_over import BATCHES, LOADER, MODEL, MODULE, OVER, SIZE, THETA, TX, TY, N, P, X, Y
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradkernels as gk
from gradkernels.batches import resume
from gradkernels.batches.resume import beside
from gradkernels.batches.row_files import NpyRows


@pytest.fixture(scope="module")
def expected():
    return gk.norms(P, THETA, X, Y)


@pytest.fixture(params=["npy", "zarr"])
def path(request, tmp_path):
    if request.param == "zarr":
        pytest.importorskip("zarr")
    return tmp_path / f"rows.{request.param}"


@pytest.fixture
def each_noted(monkeypatch):
    monkeypatch.setattr(resume, "NOTE_SECONDS", 0)


class Interrupted(Exception):
    pass


def broken_off(batches, after):
    """The batches, of which one is not there any more."""
    for number, batch in enumerate(batches):
        if number == after:
            raise Interrupted
        yield batch


def interrupted(path, after=3, **options):
    with pytest.raises(Interrupted):
        gk.over(broken_off(BATCHES, after)).norms(P, THETA, out=path, **options)


@pytest.fixture
def written(monkeypatch):
    """How many rows were written, one entry a batch."""
    found, write = [], NpyRows.write
    monkeypatch.setattr(NpyRows, "write", lambda self, rows: found.append(len(rows)) or write(self, rows))
    return found


def test_rows_in_files_are_those_in_memory(path):
    np.testing.assert_array_equal(OVER.per_sample(P, THETA, out=path)[:], OVER.per_sample(P, THETA))
    again = LOADER.project(MODULE, size=5, out=path.with_stem("other"))
    np.testing.assert_array_equal(again[:], LOADER.project(MODULE, size=5))
    rows = LOADER.per_sample(MODULE, out=str(path.with_stem("flat")))
    np.testing.assert_array_equal(rows[:], LOADER.per_sample(MODULE, flat=True))
    assert not getattr(rows, "flags", np.zeros(1)[:0].flags).writeable or path.suffix == ".zarr"


def test_an_interrupted_call_goes_on_behind_what_it_wrote(path):
    source = lambda after: gk.over(broken_off(BATCHES, after))  # noqa: E731
    for after in (2, 4):
        with pytest.raises(Interrupted):
            source(after).norms(P, THETA, out=path)
        if path.suffix == ".npy":
            with open(path, "ab") as file:
                file.write(b"half a batch of rows that no note knows" * 99)
    np.testing.assert_array_equal(source(9).norms(P, THETA, out=path)[:], OVER.norms(P, THETA))
    if path.suffix == ".npy":
        assert path.stat().st_size == 128 + 8 * N


def test_what_is_there_is_not_computed_again(tmp_path, written):
    path = tmp_path / "rows.npy"
    interrupted(path)
    assert written == [SIZE] * 3
    expected = gk.over(broken_off(BATCHES, 9)).norms(P, THETA, out=path)
    assert written == [SIZE] * 4 + [N - 4 * SIZE]
    again = gk.over(broken_off(BATCHES, 9)).norms(P, THETA, out=path)
    assert len(written) == 5
    np.testing.assert_array_equal(again, expected)


KILLED = """
import os, signal, sys, time
import numpy as np
import gradkernels as gk
from gradkernels.batches import resume

resume.NOTE_SECONDS = 0
p = gk.LogisticRegression(l2=0.1)
theta, x, y = p.draw(53, seed=1, features=3)

def batches(end):
    for number, start in enumerate(range(0, 53, 12)):
        if number == end:
            time.sleep(1)  # for the disk to have what was written
            os.kill(os.getpid(), signal.SIGKILL)
        yield x[start : start + 12], y[start : start + 12]

end = int(sys.argv[2])
print(gk.over(batches(end), prefetch=0).norms(p, theta, kernel="numpy.broadcast", out=sys.argv[1])[:].tolist())
"""


def test_a_killed_process_leaves_a_file_that_the_next_one_finishes(tmp_path, long):
    if not long:
        pytest.skip("starts processes: --long")
    path = tmp_path / "rows.npy"

    def run(end):
        return subprocess.run(
            [sys.executable, "-c", KILLED, path, str(end)], capture_output=True, text=True, timeout=60
        )

    assert run(3).returncode == -signal.SIGKILL
    assert json.loads(beside(path).read_text())["rows"] == np.load(path).shape[0] == 36
    with open(path, "ab") as file:
        file.write(b"half a batch of rows that no note knows")
    done = run(99)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(json.loads(done.stdout), gk.norms(P, THETA, X, Y, kernel="numpy.broadcast"))


def test_a_file_that_the_process_did_not_note_is_begun_anew(tmp_path, monkeypatch, expected):
    path = tmp_path / "rows.npy"
    interrupted(path, after=0)
    assert json.loads(beside(path).read_text())["batches"] == 0
    path.write_bytes(b"the first rows, when the process was killed")
    np.testing.assert_allclose(OVER_UNSIZED().norms(P, THETA, out=path), expected)


def OVER_UNSIZED(batches=BATCHES):
    return gk.over(iter(batches))


OTHER = [
    (lambda path: OVER_UNSIZED().norms(P, THETA + 1, out=path), "theta is not the same"),
    (lambda path: OVER_UNSIZED().norms(gk.LogisticRegression(), THETA, out=path), "problem is not the same"),
    (lambda path: OVER_UNSIZED().per_sample(P, THETA, out=path), "flat= and quantity are not the same"),
    (lambda path: OVER_UNSIZED().norms(P, THETA, sample_weight=Y, out=path), "sample_weight= is not the same"),
    (lambda path: OVER.norms(P, THETA, out=path), "number of batches is not the same"),
]


@pytest.mark.parametrize(("call", "says"), OTHER)
def test_rows_of_another_call_are_refused_and_stay(tmp_path, call, says):
    path = tmp_path / "rows.npy"
    interrupted(path)
    before = path.read_bytes(), beside(path).read_bytes()
    with pytest.raises(ValueError, match=f"rows.npy has rows of another call: {says}; call with the same to go on"):
        call(path)
    assert (path.read_bytes(), beside(path).read_bytes()) == before


def test_a_model_that_changed_is_another_one(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double().eval()
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    LOADER.norms(problem, out=tmp_path / "rows.npy")
    model[1].running_mean += 1
    with pytest.raises(ValueError, match="another call: theta is not the same"):
        LOADER.norms(problem, out=tmp_path / "rows.npy")


def test_other_batches_are_refused(path, expected):
    interrupted(path)
    shuffled = [BATCHES[1], BATCHES[0], *BATCHES[2:]]
    with pytest.raises(ValueError, match=r"the first batch is not what .* has rows of; pass the same data in the same"):
        OVER_UNSIZED(shuffled).norms(P, THETA, out=path)
    for at in (1, 2):
        changed = [*BATCHES[:at], (BATCHES[at][0], 1 - BATCHES[at][1]), *BATCHES[at + 1 :]]
        with pytest.raises(ValueError, match=r"the first 3 batches are not what .* has rows of"):
            OVER_UNSIZED(changed).norms(P, THETA, out=path)
    with pytest.raises(ValueError, match=r"has 3 batches and there are 2 now; pass the same ones"):
        OVER_UNSIZED(BATCHES[:2]).norms(P, THETA, out=path)
    np.testing.assert_allclose(OVER_UNSIZED().norms(P, THETA, out=path)[:], expected)


def test_a_loader_that_shuffles_is_known_by_its_first_batch(tmp_path):
    loader = DataLoader(TensorDataset(TX, TY), batch_size=SIZE, shuffle=True)
    gk.over(loader).norms(MODULE, out=tmp_path / "rows.npy")
    with pytest.raises(ValueError, match="a loader that shuffles has another one each time"):
        gk.over(loader).norms(MODULE, out=tmp_path / "rows.npy")


def test_a_file_of_unknown_origin_is_not_written_over(path):
    path.write_text("years of work")
    with pytest.raises(ValueError, match="is there, and nothing beside it says what it has; delete it"):
        OVER.norms(P, THETA, out=path)
    assert path.read_text() == "years of work"


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 0, "asked": {}, "batches": 1, "rows": 1}'])
def test_a_note_that_cannot_be_read_says_so(tmp_path, text):
    path = tmp_path / "rows.npy"
    OVER.norms(P, THETA, out=path)
    beside(path).write_text(text)
    with pytest.raises(ValueError, match=r"rows.npy.progress.json (cannot be read|is no note of this version)"):
        OVER.norms(P, THETA, out=path)


CHANGED = [
    ({"batches": "3"}, "batches is '3'"),
    ({"rows": 36.0}, "rows is 36.0"),
    ({"rows": -1}, "rows is -1"),
    ({"batches": True}, "batches is True"),
    ({"asked": []}, r"asked is \[\]"),
    ({"row": None}, "row is None"),
    ({"first": 1}, "first is 1"),
    ({"seen": {}}, r"seen is \{\}"),
]


@pytest.mark.parametrize(("change", "says"), CHANGED)
def test_a_note_that_somebody_changed_is_refused_and_the_rows_stay(tmp_path, change, says):
    path = tmp_path / "rows.npy"
    interrupted(path)
    there = path.read_bytes()
    beside(path).write_text(json.dumps(json.loads(beside(path).read_text()) | change))
    with pytest.raises(ValueError, match=f"rows.npy.progress.json was changed: {says}, and no call notes that; put"):
        OVER_UNSIZED().norms(P, THETA, out=path)
    assert path.read_bytes() == there


def test_a_note_of_fewer_rows_than_its_batches_have_moves_no_row(tmp_path):
    path = tmp_path / "rows.npy"
    interrupted(path)
    beside(path).write_text(json.dumps(json.loads(beside(path).read_text()) | {"rows": 35}))
    with pytest.raises(ValueError, match="the first 3 batches are not what"):
        OVER_UNSIZED().norms(P, THETA, out=path)


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    path = tmp_path / "rows.npy"
    interrupted(path)
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(ValueError, match=r"has fewer than 36 rows of float64 \(\); it was changed"):
        OVER_UNSIZED().norms(P, THETA, out=path)


@pytest.mark.parametrize(
    "other", [np.zeros((N, 3)), np.zeros(N, np.float32), b"no array"], ids=["rows", "dtype", "text"]
)
def test_a_file_that_was_put_in_the_place_of_the_rows_is_refused_and_stays(tmp_path, other):
    path = tmp_path / "rows.npy"
    OVER.norms(P, THETA, out=path)
    path.write_bytes(other) if isinstance(other, bytes) else np.save(path, other)
    there = path.read_bytes()
    with pytest.raises(ValueError, match=rf"has fewer than {N} rows of float64 \(\); it was changed"):
        OVER.norms(P, THETA, out=path)
    assert path.read_bytes() == there


def test_two_processes_do_not_write_the_same_file(tmp_path, expected):
    path = tmp_path / "rows.npy"
    interrupted(path)
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is written to by another process"):
            OVER_UNSIZED().norms(P, THETA, out=path)
    np.testing.assert_allclose(OVER_UNSIZED().norms(P, THETA, out=path), expected)


def test_a_full_disk_costs_nothing_that_was_written(path, each_noted):
    refused = pytest.raises(OSError, match="the batches before stay: make room and call again")
    with no_room_beyond(4096 if path.suffix == ".npy" else 1000), refused:
        big(path)
    known = json.loads(beside(path).read_text())["rows"]
    assert 0 < known < 200
    np.testing.assert_array_equal(big(path)[:], 2 * ROWS @ np.ones(8)[:, None] * ROWS)


def test_a_disk_that_fills_up_keeps_what_it_has(each_noted, small_disk, path):
    there = small_disk / path.name
    with pytest.raises(OSError, match="No space left on device; the batches before stay: make room and call again"):
        big(there, 60)
    known = json.loads(beside(there).read_text())["rows"]
    assert 0 < known < 12_000
    (small_disk / "room").unlink()
    np.testing.assert_array_equal(big(there, 60)[:], np.tile(2 * ROWS @ np.ones(8)[:, None] * ROWS, (60, 1)))


@pytest.fixture
def small_disk(long, tmp_path):
    """A file system of four megabytes, of which most is taken by a file."""
    if not long:
        pytest.skip("mounts a file system: --long")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    (folder / "room").write_bytes(bytes(3_600_000))
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_what_a_disk_lost_behind_ones_back_is_told_and_not_noted(tmp_path, monkeypatch):
    path, sync = tmp_path / "rows.npy", NpyRows.sync
    monkeypatch.setattr(resume, "NOTE_SECONDS", 1e-9)
    lost = iter([None])

    def losing(self):
        for _ in lost:
            raise OSError(errno.EIO, "Input/output error", str(path))
        sync(self)

    monkeypatch.setattr(NpyRows, "sync", losing)
    with pytest.raises(OSError, match="Input/output error"):
        big(path)
    assert json.loads(beside(path).read_text())["rows"] == 0


VALUES = np.arange(1600.0) % 7
VALUES[:800] = 1  # which Zarr compresses to little, and the rest to more than a file may have
ROWS = VALUES.reshape(200, 8)
ROWS[100:] = np.random.default_rng(0).integers(1, 2**20, (100, 8))


def big(path, times=1):
    problem = gk.LinearRegression(fit_intercept=False)
    batches = [(ROWS[i : i + 20], np.zeros(20)) for i in range(0, 200, 20)] * times
    return gk.over(batches).per_sample(problem, np.ones(8), out=path)


def test_half_precision_is_kept_as_float32(tmp_path):
    problem = gk.ModuleProblem(nn.Linear(3, 2).bfloat16(), nn.CrossEntropyLoss())
    batches = [(TX[:9].bfloat16(), TY[:9])]
    rows = gk.over(batches).per_sample(problem, out=tmp_path / "rows.npy")
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, gk.over(batches).per_sample(problem, flat=True).float())


def test_names_of_other_files_and_results_of_several_arrays_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no kind of file for rows '.csv'; known: .npy, .zarr"):
        OVER.norms(P, THETA, out=tmp_path / "rows.csv")
    with pytest.raises(TypeError, match="by= gives several arrays and a file has one"):
        LOADER.norms(MODULE, by="parameter", out=tmp_path / "rows.npy")
    assert list(tmp_path.iterdir()) == []
    assert MODEL.training
