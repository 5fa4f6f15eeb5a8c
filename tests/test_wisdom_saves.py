"""Saving wisdom: point by point, beside whoever saves at the same time, and never at the cost of what was there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from concurrent_saves import WORKERS, kernel
from measured import record

from gradkernels.dispatch import wisdom
from gradkernels.dispatch.wisdom import MeasuredPoint, Origin, store
from gradkernels.dispatch.wisdom import lock as wisdom_lock

BROADCAST, LOOP = "numpy.broadcast+.norms", "numpy.loop+.norms"
OLD, NEW = "2026-03-01T12:00:00+00:00", "2026-03-02T12:00:00+00:00"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where this machine's choice is kept."""
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "wisdom.json"))
    wisdom.saved.cache_clear()
    yield tmp_path / "wisdom.json"
    wisdom.saved.cache_clear()


def learned(*points, source="", **changes):
    """A table of (kernel, n, seconds)."""
    return wisdom.learn([record(kernel=k, n=n, seconds_median=s, **changes) for k, n, s in points], source)


def times(table):
    """Seconds by kernel and n, of tables with one entry."""
    (entry,) = table
    return {kernel: {point.n: point.seconds for point in points} for kernel, points in entry.curves.items()}


def test_a_race_on_few_rows_takes_nothing_from_other_kernels_and_sizes(path):
    wisdom.save(learned((BROADCAST, 10, 1.0), (BROADCAST, 10**6, 9.0), (LOOP, 10, 2.0), (LOOP, 10**6, 4.0)))
    wisdom.save(learned((BROADCAST, 20, 1.5), (BROADCAST, 10, 1.25)))
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.25, 20: 1.5, 10**6: 9.0}, LOOP: {10: 2.0, 10**6: 4.0}}


def test_what_is_measured_elsewhere_or_of_something_else_is_an_entry_of_its_own(path):
    others = [{}, {"machine": "b"}, {"dtype": "float32"}, {"features": 2}, {"threads": 2}, {"layout": "F"},
              {"quantity": "moments"}, {"problem": "huber"}, {"device": "cuda"}]  # fmt: skip
    for seconds, changes in enumerate(others, 1):
        wisdom.save(learned((BROADCAST, 10, float(seconds)), **changes))
    assert [times([entry])[BROADCAST] for entry in wisdom.saved()] == [{10: float(at)} for at in range(1, 10)]


def test_each_point_says_when_from_what_and_in_how_many_passes_it_was_measured(path):
    rows = [record(kernel=LOOP, n=10, seconds_median=1.0, pass_=at, started=OLD) for at in (1, 2, 3)]
    wisdom.save(wisdom.learn(rows, "a.csv"))
    wisdom.save(learned((LOOP, 20, 2.0), source="race", started=NEW))
    (entry,) = wisdom.saved()
    assert entry.curves[LOOP] == (
        MeasuredPoint(10, 1.0, 0.0, None, Origin(OLD, "a.csv", 3)),
        MeasuredPoint(20, 2.0, 0.0, None, Origin(NEW, "race", 1)),
    )
    assert entry.started == NEW


@pytest.mark.parametrize(
    ("saved", "incoming", "kept"),
    [(OLD, NEW, 2.0), (NEW, OLD, 1.0), (OLD, OLD, 2.0), ("", OLD, 2.0), (OLD, "", 1.0), ("", "", 2.0),
     ("2026-03-01T14:00:00+03:00", "2026-03-01T12:00:00+00:00", 2.0), ("2026-03-01", OLD, 2.0),
     ("2999-01-01", OLD, 2.0)],
)  # fmt: skip
def test_of_one_point_the_newer_measurement_stays_whatever_is_saved_last(path, saved, incoming, kept):
    wisdom.save(learned((LOOP, 10, 1.0), started=saved))
    wisdom.save(learned((LOOP, 10, 2.0), started=incoming))
    assert times(wisdom.saved()) == {LOOP: {10: kept}}


def test_memory_that_is_not_measured_again_stays_known(path):
    wisdom.save(learned((LOOP, 10, 1.0), peak_bytes=100, started=OLD))
    wisdom.save(learned((LOOP, 10, 2.0), started=NEW))
    wisdom.save(learned((LOOP, 10, 3.0), peak_bytes=300, started=OLD))
    (entry,) = wisdom.saved()
    assert entry.curves[LOOP] == (MeasuredPoint(10, 2.0, 0.0, 100, Origin(NEW, "", 1)),)


def test_a_file_of_the_first_schema_is_read_and_kept(path):
    case = {"problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 1, "layout": "C"}
    old = {"machine": "desk", **case, "features": 1, "started": OLD, "curves": {LOOP: [[10, 1.0, 0.5, 160]]}}
    path.write_text(json.dumps({"schema": 1, "entries": [old]}))
    wisdom.save(learned((BROADCAST, 20, 2.0), source="race", started=NEW))
    (entry,) = wisdom.saved()
    assert entry.curves[LOOP] == (MeasuredPoint(10, 1.0, 0.5, 160, Origin(OLD)),)
    assert entry.curves[BROADCAST] == (MeasuredPoint(20, 2.0, 0.0, None, Origin(NEW, "race", 1)),)
    assert json.loads(path.read_text())["schema"] == 2


def test_what_another_process_has_saved_since_it_was_read_is_kept(path):
    wisdom.save(learned((BROADCAST, 10, 1.0)))
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.0}}
    path.write_text(wisdom.dumps(learned((BROADCAST, 10, 1.0), (BROADCAST, 20, 2.0))))
    wisdom.save(learned((LOOP, 10, 2.0)))
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.0, 20: 2.0}, LOOP: {10: 2.0}}


def test_whoever_reads_while_wisdom_is_saved_reads_the_old_file_whole(path):
    wisdom.save(learned((BROADCAST, 10, 1.0)))
    before = path.read_text()
    with path.open() as reading:
        wisdom.save(learned((LOOP, 10, 2.0)))
        assert reading.read() == before
    assert path.read_text() != before
    assert sorted(one.name for one in path.parent.iterdir()) == [".wisdom.json.lock", "wisdom.json"]


def test_an_entry_that_could_not_be_read_is_refused_and_nothing_is_saved(path):
    wisdom.save(learned((BROADCAST, 10, 1.0)))
    before = path.read_text()
    (entry,) = learned((LOOP, 10, 1.0))
    bad = wisdom.WisdomEntry(entry.machine, entry.case, {LOOP: (MeasuredPoint(10, float("nan"), 0.0, None),)})
    with pytest.raises(ValueError, match=r"^norms of linear in float64 on cpu, features 1 cannot be saved: of "
                                         r"numpy.loop\+.norms, seconds is nan; it must be above 0"):  # fmt: skip
        wisdom.save((entry, bad))
    assert path.read_text() == before


def test_rows_that_make_no_entry_are_passed_over_and_the_others_learned():
    rows = [record(n=10, seconds_median=1.0, features=features) for features in (0, 3)]
    with pytest.warns(UserWarning, match=r"^r.csv: the entry norms of linear in float64 on cpu, features 0 is passed "
                                         r"over: features is 0; it must be a whole number"):  # fmt: skip
        (entry,) = wisdom.learn(rows, "r.csv")
    assert entry.case.features == 3
    with pytest.warns(
        UserWarning, match=r"^what was measured: the entry norms of linear in float64 on cpu, features 0 is"
    ):
        assert len(wisdom.learn(rows)) == 1


FAULTS = {"write": errno.ENOSPC, "fsync": errno.EDQUOT, "replace": errno.EROFS}


@pytest.mark.parametrize("step", FAULTS)
def test_wisdom_that_cannot_be_written_leaves_the_old_file_and_says_so_in_a_sentence(path, monkeypatch, step):
    wisdom.save(learned((BROADCAST, 10, 1.0)))
    before, number = path.read_text(), FAULTS[step]

    def fails(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if step == "write":
            open_ = Path.open

            def opened(self, *mode, **options):
                file = open_(self, *mode, **options)
                if mode != ("w",):
                    return file
                file.write('{"schema": ')
                patch.setattr(file, "flush", fails)
                return file

            patch.setattr(Path, "open", opened)
        else:
            patch.setattr(os, step, fails)
        says = rf"^\[Errno {number}\] wisdom cannot be saved, and what was saved before stays: {os.strerror(number)}: "
        with pytest.raises(OSError, match=f"{says}'{path}'$"):
            wisdom.save(learned((LOOP, 10, 2.0)))
    assert path.read_text() == before
    assert sorted(one.name for one in path.parent.iterdir()) == [".wisdom.json.lock", "wisdom.json"]
    wisdom.save(learned((LOOP, 10, 2.0)))
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.0}, LOOP: {10: 2.0}}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused_in_a_sentence(path, monkeypatch, number):
    def none(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(
        OSError, match="what was saved before stays: its file system has no locks, without which a save"
    ) as caught:
        wisdom.save(learned((LOOP, 10, 2.0)))
    assert caught.value.errno == number
    assert not path.exists()


def test_any_other_fault_of_the_lock_is_said_as_it_is(path, monkeypatch):
    def fault(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fault)
    with pytest.raises(OSError, match="what was saved before stays: Input/output error"):
        wisdom.save(learned((LOOP, 10, 2.0)))


def test_a_system_without_such_locks_reads_and_does_not_save(path, monkeypatch):
    wisdom.save(learned((LOOP, 10, 2.0)))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert times(wisdom.saved()) == {LOOP: {10: 2.0}}
    with pytest.raises(OSError, match="this system has no lock that ends with the process") as caught:
        wisdom.save(learned((BROADCAST, 10, 2.0)))
    assert caught.value.errno == errno.ENOSYS


def test_a_process_that_never_ends_its_save_holds_up_others_for_a_while_only(path, monkeypatch):
    monkeypatch.setattr(wisdom_lock, "LONGEST_WAIT", 0.05)
    says = "another process has been saving to it for 0.05 s"
    with wisdom_lock.held(path), pytest.raises(TimeoutError, match=says):
        wisdom.save(learned((LOOP, 10, 2.0)))
    wisdom.save(learned((LOOP, 10, 2.0)))
    assert times(wisdom.saved()) == {LOOP: {10: 2.0}}


def test_the_lock_ends_though_a_process_forked_meanwhile_has_its_file_open(path, monkeypatch):
    opened, really = [], os.open
    monkeypatch.setattr(os, "open", lambda *given: opened.append(os.dup(file := really(*given))) or file)
    monkeypatch.setattr(wisdom_lock, "LONGEST_WAIT", 0.05)
    for _ in range(2):
        with wisdom_lock.held(path):
            pass
    for file in opened:
        os.close(file)


def test_where_no_folder_can_be_nothing_is_saved_and_a_sentence_says_so(path, tmp_path, monkeypatch):
    path.write_text("a file")
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(path / "wisdom.json"))
    with pytest.raises(OSError, match="^.+ wisdom cannot be saved, and what was saved before stays: "):
        wisdom.save(learned((LOOP, 10, 2.0)))
    assert path.read_text() == "a file"


def test_a_file_that_may_not_be_written_is_left_alone(path, monkeypatch):
    wisdom.save(learned((BROADCAST, 10, 1.0)))
    before = path.read_text()
    monkeypatch.setattr(os, "access", lambda file, mode: not (Path(file) == path and mode == os.W_OK))
    with pytest.raises(PermissionError, match="what was saved before stays: Permission denied"):
        wisdom.save(learned((LOOP, 10, 2.0)))
    assert path.read_text() == before


def test_a_link_stays_one_and_rights_stay_as_they_are(path, tmp_path, monkeypatch):
    wisdom.save(learned((BROADCAST, 10, 1.0)))
    path.chmod(0o640)
    (tmp_path / "link.json").symlink_to(path)
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "link.json"))
    assert wisdom.save(learned((LOOP, 10, 2.0))) == tmp_path / "link.json"
    assert (tmp_path / "link.json").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.0}, LOOP: {10: 2.0}}


def test_all_saves_that_returned_are_kept_when_eight_processes_save_and_some_are_killed(path, long):
    saves, kills = (1000, 200) if long else (240, 40)
    command = [sys.executable, Path(__file__).with_name("concurrent_saves.py"), str(saves), str(kills)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert done.stderr == ""
    said = {kernel(int(worker)): {*sizes} for worker, sizes in json.loads(done.stdout).items()}
    assert said == {kernel(worker): {*range(1, saves // WORKERS + 1)} for worker in range(WORKERS)}
    kept = {key: {*of_sizes} for key, of_sizes in times(wisdom.loads(path.read_text(), "the file")).items()}
    assert {key: sizes - kept.get(key, set()) for key, sizes in said.items() if not sizes <= kept.get(key, set())} == {}


def test_what_could_not_be_saved_is_known_together_and_goes_with_the_next(path, monkeypatch):
    monkeypatch.setattr("gradkernels.dispatch.wisdom.store._UNSAVED", [])
    wisdom.remember(learned((BROADCAST, 10, 1.0)))
    wisdom.remember(learned((LOOP, 20, 3.0)))
    assert times(wisdom.unsaved()) == {BROADCAST: {10: 1.0}, LOOP: {20: 3.0}}
    wisdom.save(learned((LOOP, 30, 4.0)))
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.0}, LOOP: {20: 3.0, 30: 4.0}}
    assert wisdom.unsaved() == ()


def test_what_another_thread_remembers_during_a_save_goes_with_the_next(path, monkeypatch):
    monkeypatch.setattr(store, "_UNSAVED", [])
    merge = store._merge_into

    def slow(*given):
        wisdom.remember(learned((LOOP, 30, 4.0)))
        merge(*given)

    wisdom.remember(learned((BROADCAST, 10, 1.0)))
    with monkeypatch.context() as patch:
        patch.setattr(store, "_merge_into", slow)
        wisdom.save(())
    assert (times(wisdom.saved()), times(wisdom.unsaved())) == ({BROADCAST: {10: 1.0}}, {LOOP: {30: 4.0}})
    wisdom.save(())
    assert times(wisdom.saved()) == {BROADCAST: {10: 1.0}, LOOP: {30: 4.0}}
    assert wisdom.unsaved() == ()
