"""The machine's slot: which file it is, who may hold it beside whom, and where there is none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from gradkernels.bench.isolation.machine_slot import machine_slot, slot_file


@pytest.fixture
def slot(tmp_path, monkeypatch):
    path = tmp_path / "slot"
    monkeypatch.setenv("GRADKERNELS_SLOT", str(path))
    return path


def held_by(path):
    """What may hold the file beside who holds it: nobody, those who share it, or anybody."""
    with path.open() as file:
        for how in ("LOCK_EX", "LOCK_SH"):
            try:
                fcntl.flock(file, getattr(fcntl, how) | fcntl.LOCK_NB)
                return how
            except BlockingIOError:
                continue
    return None


def descriptors():
    return sorted(os.listdir("/dev/fd"))


@pytest.mark.parametrize("own", [True, False])
def test_the_slot_is_in_the_user_s_own_memory_or_in_tmp(monkeypatch, own):
    asked = []
    monkeypatch.delenv("GRADKERNELS_SLOT")
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "access", lambda *given: asked.append(given) or own)
    assert slot_file() == Path("/run/user/1234/gradkernels.slot" if own else "/tmp/gradkernels-1234.slot")
    assert asked == [(Path("/run/user/1234"), os.W_OK | os.X_OK)]
    monkeypatch.setenv("GRADKERNELS_SLOT", "/somewhere/else")
    assert slot_file() == Path("/somewhere/else")


@pytest.mark.parametrize(("alone", "beside"), [(True, None), (False, "LOCK_SH")])
def test_who_is_alone_has_nobody_beside_it_and_who_is_not_has_those_who_share(slot, capsys, alone, beside):
    before = descriptors()
    with machine_slot(alone):
        assert held_by(slot) == beside
        assert slot.stat().st_mode & 0o777 == 0o600
    assert held_by(slot) == "LOCK_EX"
    with pytest.raises(LookupError), machine_slot(alone):
        raise LookupError
    assert held_by(slot) == "LOCK_EX"
    assert descriptors() == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("alone", "how"), [(True, fcntl.LOCK_EX), (False, fcntl.LOCK_SH)])
def test_who_waits_says_so_and_then_holds_the_slot(slot, monkeypatch, capsys, alone, how):
    asked = []

    def flock(file, operation):
        asked.append(operation)
        assert os.path.samestat(os.fstat(file), slot.stat())
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError(errno.EWOULDBLOCK, "held")

    monkeypatch.setattr(fcntl, "flock", flock)
    with machine_slot(alone):
        assert asked == [how | fcntl.LOCK_NB, how]
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "waiting: another run measures on this machine\n")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_does_without(slot, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with machine_slot(alone=True):
        assert slot.exists()


@pytest.mark.parametrize("alone", [True, False])
def test_a_lock_that_fails_otherwise_is_told(slot, monkeypatch, alone):
    def flock(file, operation):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    before = descriptors()
    with pytest.raises(OSError, match="broken"), machine_slot(alone):
        pass
    assert descriptors() == before


def is_a_pipe(slot, monkeypatch):
    os.mkfifo(slot)


def is_somebody_else_s(slot, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1234)


@pytest.mark.parametrize("spoil", [is_a_pipe, is_somebody_else_s])
def test_a_file_that_is_not_the_user_s_own_is_refused_to_who_is_alone(slot, monkeypatch, spoil):
    spoil(slot, monkeypatch)
    before = descriptors()
    with pytest.raises(PermissionError) as refusal, machine_slot(alone=True):
        pass
    told = f"{slot} is not this user's own file; remove it, or name another by GRADKERNELS_SLOT"
    assert str(refusal.value) == told
    with machine_slot(alone=False):
        assert descriptors() == before


def test_a_link_and_a_folder_that_is_not_there_are_refused_to_who_is_alone(slot, tmp_path, monkeypatch):
    slot.symlink_to(tmp_path / "other")
    for path in (slot, tmp_path / "gone" / "slot"):
        monkeypatch.setenv("GRADKERNELS_SLOT", str(path))
        with pytest.raises(OSError, match="symbolic links|No such file"), machine_slot(alone=True):
            pass
        with machine_slot(alone=False):
            pass
    assert not (tmp_path / "other").exists()
