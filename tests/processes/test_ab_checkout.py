"""What `ab` checks out beside a revision's own files, what it says of what is missing, what a killed one leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_ab import git, repository, worktrees

from gradkernels.bench.ab.client import worker_on
from gradkernels.bench.ab.messages import KernelsListed, ListKernels
from gradkernels.bench.ab.revisions import revisions
from gradkernels.bench.ab.rooms import abandoned, room
from gradkernels.bench.cli import main

__all__ = ["repository"]
FROM_FILES = ("-c", "protocol.file.allow=always")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"


def commit(folder, message):
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", message)


def made(folder, text):
    """A repository with one file."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "numbers.py").write_text(text)
    commit(folder, text)
    return folder


@pytest.fixture
def nested(repository, tmp_path):
    """The package with a submodule that has a submodule; its commits need one after the other of the outer's."""
    inner = made(tmp_path / "inner", "FACTOR = 1\n")
    outer = made(tmp_path / "outer", "TIMES = 1\n")
    git(outer, *FROM_FILES, "submodule", "--quiet", "add", str(inner), "inner")
    commit(outer, "with inner")
    place = "src/my_kernels/outer"
    git(repository, *FROM_FILES, "submodule", "--quiet", "add", str(outer), place)
    git(repository, *FROM_FILES, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(repository, "with submodules")
    there = repository / place
    (there / "numbers.py").write_text("TIMES = 2\n")
    commit(there, "two")
    (there / "inner" / "numbers.py").write_text("FACTOR = 5\n")  # not committed
    commit(repository, "two")
    return repository


def numbers(side):
    outer = side.root / "my_kernels" / "outer"
    return (outer / "numbers.py").read_text(), (outer / "inner" / "numbers.py").read_text()


def test_submodules_are_those_of_each_revision_and_nested_ones_too(nested):
    with revisions("HEAD~1", "HEAD", nested) as (before, after):
        assert numbers(before) == ("TIMES = 1\n", "FACTOR = 1\n")
        assert numbers(after) == ("TIMES = 2\n", "FACTOR = 1\n")
        assert before.remarks == after.remarks == ()
    assert worktrees(nested) == 1
    for submodule in (nested / "src/my_kernels/outer", nested / "src/my_kernels/outer/inner"):
        assert worktrees(submodule) == 1
        assert git(submodule, "diff", "--cached", "--name-only") == ""


def test_submodules_of_the_working_tree_are_as_they_are_now(nested):
    (nested / "src/my_kernels/outer/new.py").touch()
    with revisions("HEAD", ".", nested) as (_, after):
        assert numbers(after) == ("TIMES = 2\n", "FACTOR = 5\n")
        assert (after.root / "my_kernels/outer/new.py").exists()


def test_a_package_that_needs_its_submodule_takes_part(nested, capsys):
    package = nested / "src" / "my_kernels" / "norms.py"
    package.write_text("from my_kernels.outer.numbers import TIMES\n" + package.read_text())
    commit(nested, "uses it")
    for side in revisions_of(nested):
        with worker_on(side) as worker:
            worker.send(ListKernels(str(side.root), ("norms",)))
            assert "numpy.mine" in {one.way for one in worker.require(KernelsListed).kernels}


def revisions_of(folder):
    with revisions("HEAD", ".", folder) as sides:
        yield from sides


def test_a_submodule_that_is_not_checked_out_is_named_where_it_is_missed(nested, capsys):
    package = nested / "src" / "my_kernels" / "norms.py"
    package.write_text("from my_kernels.outer.numbers import TIMES\n" + package.read_text())
    commit(nested, "uses it")
    git(nested, "submodule", "--quiet", "deinit", "--force", "--all")
    assert main(["ab", "HEAD", "HEAD~1", "--quantity", "norms"]) == 5  # HEAD declares a kernel that cannot be imported
    told = capsys.readouterr().err
    assert "of HEAD 1 submodule (src/my_kernels/outer) stayed empty, which git submodule update" in told


def test_a_submodule_without_the_commit_that_is_needed_is_refused(nested, capsys):
    there = nested / "src/my_kernels/outer"
    tree = git(nested, "rev-parse", "HEAD").strip()
    git(nested, "update-index", "--cacheinfo", f"160000,{tree},src/my_kernels/outer")
    git(nested, "commit", "--quiet", "--message", "unknown")
    assert main(["ab", "HEAD", "HEAD~1"]) == 2
    assert f"the submodule {there} lacks {tree[:12]}, which " in capsys.readouterr().err
    assert worktrees(nested) == 1


def test_pointers_of_git_lfs_are_told(repository):
    (repository / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (repository / "src" / "my_kernels" / "table.bin").write_text(POINTER)
    (repository / "src" / "my_kernels" / "whole.bin").write_text("not a pointer")
    git(repository, "-c", "filter.lfs.clean=cat", "add", ".")
    git(repository, "-c", "filter.lfs.clean=cat", "commit", "--quiet", "--message", "lfs")
    with revisions("HEAD", ".", repository) as sides:
        for rev, side in zip(("HEAD", "."), sides, strict=True):
            assert side.remarks == (
                f"of {rev} there are 1 pointer of git-lfs, such as src/my_kernels/table.bin, in place of what git lfs "
                "pull would bring",
            )


# Memory.


def test_max_bytes_limits_the_processes_of_both_sides(repository, capsys):
    """Enough for Python itself, and for nothing else."""
    assert main(["ab", "HEAD~1", "HEAD", "--quantity", "norms", "--max-bytes", "20MB"]) == 2
    assert "HEAD~1 cannot take part: out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "much", "-1GB"])
def test_a_size_that_is_none_is_refused_before_anything_is_checked_out(capsys, tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    assert main(["ab", "--max-bytes", size]) == 2
    assert capsys.readouterr().err.startswith(f"gradkernels: --max-bytes {size!r}: ")


# What is killed.


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_a_room_is_gone_afterwards_and_locked_before(temporary):
    with room() as folder:
        assert folder.parent == temporary
        assert not abandoned(folder)
        with room():
            assert folder.exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["gradkernels-ab-x", "gradkernels-ab-99999999999999999999-x", "gradkernels-ab-1-x"])
def test_a_room_of_nobody_is_abandoned_and_other_folders_are_not(temporary, name):
    (temporary / name).mkdir()
    assert abandoned(temporary / name) == ("999" in name)


def test_a_locked_room_is_not_abandoned_whatever_its_number(temporary):
    import fcntl

    folder = temporary / "gradkernels-ab-99999999999999999999-x"
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert not abandoned(folder)
    os.close(lock)
    assert abandoned(folder)


def workers(temporary):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"TMPDIR={temporary}\0".encode() in (process / "environ").read_bytes()
            if ours and b"gradkernels.bench.ab.worker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_until(true):
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_is_killed_leaves_no_worker_and_nothing_after_the_next(repository, temporary):
    start = "import sys; from gradkernels.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "ab", "HEAD~1", ".", "--quantity", "norms", "--sizes", "3000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "pass 1" in process.stderr.readline()
    wait_until(lambda: workers(temporary))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    wait_until(lambda: not workers(temporary))
    assert list(temporary.iterdir())
    with revisions("HEAD~1", ".", repository):
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []
    assert worktrees(repository) == 1
