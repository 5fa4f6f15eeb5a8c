"""Two revisions against each other: what is checked out, what is chosen, when it ends and what it says."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import gradkernels as gk
from gradkernels.bench.ab import sequential
from gradkernels.bench.ab import session as ab
from gradkernels.bench.ab.client import Side
from gradkernels.bench.ab.interleaved import PairedSample, Target
from gradkernels.bench.ab.kernels import choose_kernels
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.revisions import dependencies, revisions
from gradkernels.bench.ab.sequential import time_until_settled
from gradkernels.bench.ab.worker import _for_proof, _is_black_box
from gradkernels.bench.cli import main
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS, Override, Thresholds

KERNELS = """
import numpy as np

from gradkernels.kernel import declare


@declare("numpy.mine.norms")
def mine(problem):
    def compute(theta, x, y):
        for _ in range({times}):
            slope = 2 * (theta[0] + x * theta[1] - y)
            result = {factor} * np.abs(slope) * np.hypot(1, x)
        return result

    return compute
"""
PYPROJECT = """
[project]
name = "my-kernels"
dependencies = ["gradkernels", "numpy>={numpy}"]

[project.entry-points."gradkernels.kernels"]
mine = "my_kernels.norms"
"""
SIDES = (Side("old", Path("old"), commit="aaaa"), Side("new", Path("new"), commit="bbbb"))
TARGET, OTHER = Target("numpy.mine.norms", 10), Target("numpy.mine.norms", 1000)
CANARY = Target("numpy.mine.norms", 10, canary=True)
STEADY = (0.001, -0.002, 0.002, -0.001, 0.003, -0.003, 0.001, -0.001)
WILD = (0.1, -0.15, 0.2, -0.1, 0.12, -0.2, 0.05, -0.02)


def git(folder, *arguments):
    done = subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def write(folder, times=1, factor="1", numpy="2.0"):
    package = folder / "src" / "my_kernels"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "norms.py").write_text(KERNELS.format(times=times, factor=factor))
    (folder / "pyproject.toml").write_text(PYPROJECT.format(numpy=numpy))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A package with a kernel, committed twice: in the second commit the kernel does its work three times."""
    folder = tmp_path / "my-kernels"
    folder.mkdir()
    for name, value in (("GIT_AUTHOR", "a"), ("GIT_COMMITTER", "a")):
        monkeypatch.setenv(f"{name}_NAME", value)
        monkeypatch.setenv(f"{name}_EMAIL", "a@example.org")
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("*.log\n__pycache__\n")
    for times in (1, 3):
        write(folder, times)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", f"{times} times")
    monkeypatch.chdir(folder)
    return folder


def worktrees(folder):
    return git(folder, "worktree", "list").count("\n")


def scripted(monkeypatch, script):
    """Passes without processes: `script(target, number)` gives the log ratio, or the statuses of a pass."""
    played = {}

    def paired_pass(sides, targets, setting, inputs, rng):
        for target in targets:
            played[target] = played.get(target, 0) + 1
            found = script(target, played[target] - 1)
            if isinstance(found, tuple):
                yield target, PairedSample(found, ("", "why"))
            else:
                yield target, PairedSample(("ok", "ok"), ("", ""), found, (1e-6, 2e-6))

    monkeypatch.setattr(sequential, "paired_pass", paired_pass)
    return played


# Looks.


@pytest.mark.parametrize(("logs", "passes"), [(STEADY, 8), (WILD, 32)])
def test_a_comparison_ends_at_the_look_that_settles_it(monkeypatch, logs, passes):
    scripted(monkeypatch, lambda target, number: logs[number % 8])
    assert len(time_until_settled([TARGET], SIDES, Setting())[TARGET]) == passes


@pytest.mark.parametrize(
    ("percent", "limit", "passes"),
    [
        (2, None, 8),
        (2, 0.05, 8),
        (2, 0.005, 8),
        (2, 0.02, 32),
        (2, 0.022, 16),
        (0, 0.0, 8),
        (0, 0.003, 8),
        (5, 0.049, 32),
    ],
)
def test_a_limit_is_looked_for_until_a_slowdown_by_it_is_found_or_excluded(monkeypatch, percent, limit, passes):
    scripted(monkeypatch, lambda target, number: STEADY[number % 8] + math.log1p(percent / 100))
    found = time_until_settled([TARGET], SIDES, Setting(), Thresholds(fail_slower=limit))
    assert len(found[TARGET]) == passes


def test_a_limit_is_looked_for_among_all_targets_at_once(monkeypatch):
    many = [Target(f"numpy.mine{i}.norms", 10) for i in range(200)]

    def script(target, number):
        return STEADY[number % 8] + (math.log(1.0545) if target is many[0] else 0)

    thresholds = Thresholds(fail_slower=0.05)
    scripted(monkeypatch, script)
    assert {len(found) for found in time_until_settled(many[:1], SIDES, Setting(), thresholds).values()} == {8}
    among = time_until_settled(many, SIDES, Setting(), thresholds)
    assert [len(among[target]) for target in many[:2]] == [16, 8]


def test_only_what_is_open_goes_on_and_the_canary_with_it(monkeypatch):
    def script(target, number):
        wild = target == OTHER and number < 8
        return (WILD if wild else STEADY)[number % 8]

    played = scripted(monkeypatch, script)
    time_until_settled([TARGET, OTHER, CANARY], SIDES, Setting())
    assert (played[TARGET], played[CANARY]) == (8, played[OTHER])
    assert played[OTHER] in (16, 32)


def test_a_canary_that_differs_from_itself_ends_everything(monkeypatch):
    played = scripted(
        monkeypatch, lambda target, number: STEADY[number % 8] + 0.1 if target.canary else WILD[number % 8]
    )
    time_until_settled([TARGET, CANARY], SIDES, Setting())
    assert played == {TARGET: 8, CANARY: 8}


def test_what_fails_is_not_tried_again(monkeypatch):
    played = scripted(
        monkeypatch, lambda target, number: ("ok", "wrong") if target == OTHER and number == 1 else STEADY[number % 8]
    )
    time_until_settled([TARGET, OTHER], SIDES, Setting())
    assert played == {TARGET: 8, OTHER: 2}


# What the session says.


def session(monkeypatch, script, present=((True, True),), sizes=(10, 1000), thresholds=DEFAULT_THRESHOLDS):
    scripted(monkeypatch, script)
    keys = {f"numpy.mine{i or ''}.norms": both for i, both in enumerate(present)}
    return ab.compare_sides(SIDES, keys, sizes, Setting(), thresholds, lambda number, targets: None)


def slower_at_1000(target, number):
    return STEADY[number % 8] + (0.2 if target.n == 1000 and not target.canary else 0)


def test_rows_have_verdicts_and_times(monkeypatch):
    comparison = session(monkeypatch, slower_at_1000)
    same, slower = comparison.rows
    assert (same.case.n, same.verdict, same.passes_before) == (10, "same", 8)
    assert (slower.case.n, slower.verdict, slower.passes_after) == (1000, "slower", 8)
    assert (slower.seconds_before, slower.seconds_after) == (1e-6, 2e-6)
    assert slower.ratio == pytest.approx(1.2214, rel=2e-3)  # exp(0.2)
    assert slower.low < slower.ratio < slower.high
    assert slower.p_suite == pytest.approx(2 * slower.p)
    assert comparison.mean.ratio == pytest.approx(1.1052, rel=2e-3)  # exp(0.1)
    assert comparison.exit_code(fail_undecided=True) == 0


@pytest.mark.parametrize(("limit", "code"), [(0.05, 1), (0.3, 0)])
def test_a_slowdown_beyond_its_limit_fails(monkeypatch, limit, code):
    assert session(monkeypatch, slower_at_1000, thresholds=Thresholds(fail_slower=limit)).exit_code(False) == code


def test_thresholds_of_some_cases_decide_their_verdicts(monkeypatch):
    thresholds = Thresholds(overrides=(Override(low=1000, delta=0.5),))
    assert [row.verdict for row in session(monkeypatch, slower_at_1000, thresholds=thresholds).rows] == ["same", "same"]


def test_what_stays_undecided_can_fail(monkeypatch):
    comparison = session(monkeypatch, lambda target, number: (STEADY if target.canary else WILD)[number % 8])
    assert (comparison.exit_code(False), comparison.exit_code(True)) == (0, 3)


def test_a_contaminated_session_has_no_verdicts(monkeypatch):
    comparison = session(monkeypatch, lambda target, number: STEADY[number % 8] + 0.1)
    assert {row.verdict for row in comparison.rows} == {"contaminated"}
    assert comparison.mean is None
    assert comparison.exit_code(False) == 5
    (canary,) = comparison.canaries
    assert canary.flagged
    assert str(canary).endswith("in old against itself at numpy.mine.norms, n = 1000")


def test_a_kernel_of_one_side_only_is_named_and_not_timed(monkeypatch):
    present = ((True, True), (False, True), (True, False))
    comparison = session(monkeypatch, lambda target, number: STEADY[number % 8], present, (10,))
    _, new, gone = comparison.rows
    assert (new.kernel, new.verdict, gone.kernel, gone.verdict) == ("numpy.mine1.norms", "", "numpy.mine2.norms", "")
    assert comparison.only_after == (new,)
    assert comparison.only_before == (gone,)
    assert comparison.missing == (gone,)
    assert comparison.exit_code(False) == 0
    assert comparison.exit_code(fail_missing=True) == 6


def test_nothing_is_timed_when_nothing_is_in_both(monkeypatch):
    comparison = session(monkeypatch, lambda target, number: 1 / 0, ((False, True),))
    assert comparison.canaries == ()
    assert comparison.exit_code(False) == 5


# Revisions.


def test_both_revisions_are_there_and_gone_afterwards(repository):
    with revisions("HEAD~1", "HEAD", repository) as (before, after):
        assert "range(1)" in (before.root / "my_kernels" / "norms.py").read_text()
        assert "range(3)" in (after.root / "my_kernels" / "norms.py").read_text()
        assert before.commit == git(repository, "rev-parse", "HEAD~1")[:12]
        assert worktrees(repository) == 3
    assert not before.root.exists()
    assert worktrees(repository) == 1


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError])
def test_revisions_are_gone_after_a_fault(repository, fault):
    with pytest.raises(fault), revisions("HEAD~1", "HEAD", repository) as sides:
        raise fault
    assert not sides[0].root.exists()
    assert worktrees(repository) == 1


def test_the_working_tree_is_taken_as_it_is_now(repository):
    write(repository, 7)
    package = repository / "src" / "my_kernels"
    (package / "new.py").touch()
    (package / "__init__.py").unlink()
    with revisions("HEAD", ".", repository) as (_, after):
        write(repository, 9)
        assert "range(7)" in (after.root / "my_kernels" / "norms.py").read_text()
        assert (after.root / "my_kernels" / "new.py").exists()
        assert not (after.root / "my_kernels" / "__init__.py").exists()
        assert after.commit == git(repository, "rev-parse", "HEAD")[:12] + "+"
    assert "range(9)" in (package / "norms.py").read_text()


def test_ignored_files_stay_where_they_are(repository):
    (repository / "big.log").touch()
    with revisions(".", ".", repository) as (before, _):
        assert (before.root.parent / "pyproject.toml").exists()
        assert not (before.root.parent / "big.log").exists()


def test_what_a_killed_session_left_is_cleared_away(repository, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = tmp_path / f"gradkernels-ab-{ended.pid}-x" / "before"
    running = tmp_path / f"gradkernels-ab-{os.getppid()}-x" / "before"
    for tree in (stale, running):
        git(repository, "worktree", "add", "--quiet", "--detach", tree, "HEAD")
    with revisions("HEAD", "HEAD", repository):
        assert not stale.parent.exists()
        assert running.exists()
    assert worktrees(repository) == 2


def test_dependencies_are_those_of_the_revision(repository):
    write(repository, numpy="2.1")
    with revisions("HEAD", ".", repository) as (before, after):
        assert dependencies(before) ^ dependencies(after) == {"numpy>=2.0", "numpy>=2.1"}


@pytest.mark.parametrize("rev", ["nosuch", "--all"])
def test_an_unknown_revision_is_refused(repository, capsys, rev):
    assert main(["ab", "--", rev]) == 2
    assert f"there is no revision '{rev}' in " in capsys.readouterr().err


def test_outside_a_repository_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ab"]) == 2
    assert "is not in a git repository" in capsys.readouterr().err


# The command.


def run(capsys, *arguments):
    code = main(["ab", *arguments, "--quantity", "norms"])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_wrong_kernel_is_not_timed(repository, capsys):
    write(repository, factor="2")
    code, out, _ = run(capsys, "--sizes", "10", "--format", "json")
    (row,) = json.loads(out)["rows"]
    assert code == 4
    assert (row["status_before"], row["status_after"], row["verdict"]) == ("ok", "wrong", "")
    assert "expected" in row["reason"]


def test_other_dependencies_and_no_pinning_are_said(repository, monkeypatch, capsys):
    scripted(monkeypatch, lambda target, number: STEADY[number % 8])
    monkeypatch.setattr("gradkernels.bench.cli.commands.ab.draw_cores", lambda threads, rng: [])
    write(repository, numpy="2.1")
    _, _, err = run(capsys, "--sizes", "10")
    assert "HEAD and . declare different dependencies (numpy>=2.0, numpy>=2.1); both ran on what is" in err
    assert "unpinned: " in err


def test_a_pattern_that_fits_nothing_is_refused_with_near_names(repository, capsys):
    code, _, err = run(capsys, "--kernel", "numpy.mien")
    assert code == 2
    assert "there is no kernel 'numpy.mien'; did you mean numpy.mine" in err


def test_a_problem_that_is_badly_written_is_refused_before_anything_starts(repository, capsys):
    code, _, err = run(capsys, "--problem", "huber(2)")
    assert code == 2
    assert "'huber(2)': options are written as in huber(delta=2), with numbers or True and False" in err


def test_patterns_choose_kernels_of_other_packages_too(repository):
    with revisions("HEAD", ".", repository) as sides:
        assert list(choose_kernels(sides, ["norms"], [])) == ["numpy.mine.norms"]
        assert list(choose_kernels(sides, ["norms"], ["numpy.broad*", "numpy.mine"])) == [
            "numpy.broadcast+.norms",
            "numpy.mine.norms",
        ]
        assert list(choose_kernels(sides, ["norms"], ["torch.vmap[chunk=512]"])) == ["torch.vmap+[chunk=512].norms"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(repository, tmp_path, number):
    room = tmp_path / "tmp"
    room.mkdir()
    # A test run in the background ignores SIGINT, and so would its children.
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from gradkernels.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "ab", "--quantity", "norms", "--sizes", "3000"]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(room)}, stderr=subprocess.PIPE, text=True)
    assert "pass 1" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(20) in (130, 143)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert list(room.iterdir()) == []
    assert worktrees(repository) == 1


def test_the_worker_finds_the_names_that_earlier_revisions_had():
    case = gk.Case(gk.LinearRegression(), "norms", 3)
    assert _for_proof(case) is case
    assert _for_proof(SimpleNamespace(provable=lambda: case)) is case
    assert _for_proof(old := SimpleNamespace()) is old
    assert _is_black_box(SimpleNamespace(opaque=True))
    assert not _is_black_box(case.problem)
