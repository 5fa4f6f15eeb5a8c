"""Two processes timed in turns: order, slices, scores, and what happens when one of them goes wrong."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import evil
import numpy as np
import psutil
import pytest

from gradkernels.bench.ab import client, interleaved
from gradkernels.bench.ab.client import Side, here, worker_on
from gradkernels.bench.ab.interleaved import Target, paired_pass
from gradkernels.bench.ab.messages import KernelsListed, ListKernels, Load, Loaded, Prepare, Prepared, Setting
from gradkernels.bench.isolation.errors import WorkerDied

FAST = Target("numpy.matmul.gradient", 1000)
NORMS = Target("numpy.broadcast+.norms", 100)
DYING = """
import os
from pathlib import Path

from gradkernels.kernel import declare
from gradkernels.registry import kernel


@declare("numpy.dying.gradient")
def dying(problem):
    compute = kernel("numpy.matmul.gradient").build(problem)
    calls = []

    def counted(theta, x, y):
        calls.append(1)
        if len(calls) == 500:
            try:
                Path(os.environ["ONLY_ONE"]).touch(exist_ok=False)
            except FileExistsError:
                return compute(theta, x, y)
            {end}
        return compute(theta, x, y)

    return counted
"""


def timed(*targets, sides=None, setting=None, folder):
    return dict(paired_pass(sides or (here(), here()), targets, setting or Setting(), folder, np.random.default_rng(0)))


def offered(folder, monkeypatch, module, text=None):
    """Offer the kernels of a module to the registry of child processes."""
    path = evil.install(folder)
    if text is not None:
        (folder / f"{module}.py").write_text(text)
        (folder / "evil-1.dist-info" / "entry_points.txt").write_text(f"[gradkernels.kernels]\n{module} = {module}\n")
    monkeypatch.setenv("PYTHONPATH", path)


def test_blocks_are_abba_or_baab_at_random():
    turns = interleaved._order(200, np.random.default_rng(0))
    blocks = Counter(tuple(turns[start : start + 4]) for start in range(0, 800, 4))
    assert set(blocks) == {(0, 1, 1, 0), (1, 0, 0, 1)}
    assert 70 < blocks[0, 1, 1, 0] < 130


@pytest.mark.parametrize(
    ("seconds", "extra", "calls"),
    [([1e-5, 1e-5], 0, 20), ([4e-6, 25e-6], 0, 20), ([0.1, 0.1], 0, 1), ([1e-5, 1e-5], 5, 20), ([0.1, 0.1], 5, 20)],
)
def test_a_slice_takes_200_microseconds_in_whole_calls(seconds, extra, calls):
    assert interleaved._iterations(seconds, extra) == calls
    assert calls * (100 + extra) % 100 == 0


@pytest.mark.parametrize(("block", "blocks"), [(1e-3, 250), (5e-3, 60), (0.025, 30), (10, 3)])
def test_a_pass_has_60_blocks_and_a_quarter_of_a_second_unless_calls_are_slow(block, blocks):
    assert interleaved._blocks(block) == blocks


def test_a_pass_is_the_median_over_blocks_of_the_difference_of_log_times():
    first = [1, 1, 1, 1, 1, 1]
    second = [2, 8, 1, 1, 3, 3]  # geometric means of the blocks: 4, 1, 3
    sample = interleaved._scored(first, second, 10)
    assert sample.log == pytest.approx(math.log(3))
    assert sample.seconds == pytest.approx((0.1, math.sqrt(6) / 10))


def test_both_sides_get_the_inputs_that_the_first_drew(tmp_path):
    drawn = tmp_path / "norms-100.npz"
    timed(NORMS, folder=tmp_path)
    with np.load(drawn) as arrays:
        theta, x, y = (arrays[name] for name in ("arr_0", "arr_1", "arr_2"))
    np.savez(drawn, theta, x[:99], y[:99])
    (sample,) = timed(NORMS, folder=tmp_path).values()
    assert sample.reasons[0] == sample.reasons[1]
    assert sample.reasons[0].startswith("ValueError: the inputs have n=99")


@pytest.mark.parametrize(
    ("kernel", "status", "reason"),
    [
        ("numpy.wrong.norms", "wrong", "numpy.wrong.norms on linear"),
        ("numpy.raises.norms", "failed", "RuntimeError: this kernel"),
        ("numpy.segfault.norms", "failed", "the process was ended by SIGSEGV"),
    ],
)
def test_a_kernel_that_goes_wrong_is_not_timed_and_the_others_are(tmp_path, monkeypatch, kernel, status, reason):
    offered(tmp_path, monkeypatch, "evil")
    bad, good = timed(Target(kernel, 100), NORMS, folder=tmp_path).values()
    assert bad.statuses == (status, status)
    assert bad.reasons[0].startswith(reason)
    assert math.isnan(bad.log)
    assert good.ok


def test_a_kernel_that_takes_too_much_memory_is_ended_and_the_others_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "most_bytes", lambda: 600_000_000)
    offered(tmp_path, monkeypatch, "evil")
    greedy, good = timed(Target("numpy.greedy.norms", 100), NORMS, folder=tmp_path).values()
    assert greedy.statuses == ("failed", "failed")
    assert all(reason.startswith("out of memory: MemoryError: Unable to allocate") for reason in greedy.reasons)
    assert good.ok


def test_a_worker_that_gives_no_answer_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "SILENCE_SECONDS", 5.0)
    offered(tmp_path, monkeypatch, "evil")
    with worker_on(here()) as worker:
        worker.send(Load(str(here().root), "linear", {}, Setting(), ("numpy",), (), 0, 0, 0, str(tmp_path)))
        worker.require(Loaded)
        worker.send(Prepare("numpy.hang.norms", 100))
        with pytest.raises(WorkerDied, match="the process came no further for 5 s"):
            worker.receive(Prepared)
        assert not worker.alive


@pytest.mark.parametrize(
    ("end", "reason"),
    [("raise OSError('once too often')", "OSError: once too often"), ("os._exit(3)", "the process ended with code 3")],
)
def test_one_that_dies_while_it_is_timed_is_blamed_alone(tmp_path, monkeypatch, end, reason):
    offered(tmp_path, monkeypatch, "dying", DYING.format(end=end))
    monkeypatch.setenv("ONLY_ONE", str(tmp_path / "died"))
    dying, good = timed(Target("numpy.dying.gradient", 10), NORMS, folder=tmp_path).values()
    assert sorted(dying.statuses) == ["failed", "ok"]
    assert "".join(dying.reasons).startswith(reason)
    assert good.ok


def test_a_side_imported_from_elsewhere_is_refused(tmp_path):
    shadowed = tmp_path / "gradkernels"
    shadowed.mkdir()
    (shadowed / "__init__.py").touch()
    elsewhere = Side("v1", tmp_path, paths=(here().root,))
    with pytest.raises(
        ValueError, match=r"v1 cannot take part: ImportError: gradkernels\S* was imported from \S+, not"
    ):
        timed(FAST, sides=(elsewhere, elsewhere), folder=tmp_path)


def test_a_side_without_kernels_is_refused(tmp_path):
    side = Side("v1", tmp_path)
    with pytest.raises(ValueError, match="v1 cannot take part: ImportError: nothing in .* was imported"):
        timed(FAST, sides=(side, side), folder=tmp_path)


def test_a_side_that_cannot_be_imported_is_refused(tmp_path):
    broken = tmp_path / "gradkernels"
    broken.mkdir()
    (broken / "__init__.py").write_text("1 / 0")
    side = Side("v1", tmp_path)
    with pytest.raises(ValueError, match="v1 cannot take part: .*ZeroDivisionError: division by zero"):
        timed(FAST, sides=(here(), side), folder=tmp_path)


def test_a_problem_has_the_options_that_its_name_gives(tmp_path):
    spec = "huber(delta=2.0,fit_intercept=False)"
    (sample,) = timed(NORMS, setting=Setting(problem=spec, features=2), folder=tmp_path).values()
    assert sample.ok
    with np.load(tmp_path / "norms-100.npz") as arrays:
        assert arrays["arr_0"].shape == (2,)
    with pytest.raises(ValueError, match="here cannot take part: TypeError: .*'width'"):
        timed(NORMS, setting=Setting(problem="huber(width=2.0)"), folder=tmp_path)


def test_an_unknown_problem_is_refused(tmp_path):
    with pytest.raises(ValueError, match="here cannot take part: ValueError: it has no problem 'lunar', only linear"):
        timed(FAST, setting=Setting(problem="lunar"), folder=tmp_path)


def test_no_process_outlives_a_pass_that_is_broken_off(tmp_path):
    before = set(psutil.Process().children())
    passing = paired_pass((here(), here()), [FAST, NORMS], Setting(), tmp_path, np.random.default_rng(0))
    next(passing)
    assert len(set(psutil.Process().children()) - before) == 2
    passing.close()
    assert set(psutil.Process().children()) == before


def test_the_harness_is_this_one_and_the_library_the_revisions(tmp_path):
    """A revision whose own harness is of no use takes part."""
    root = tmp_path / "old"
    (root / "gradkernels").mkdir(parents=True)
    for path in (here().root / "gradkernels").iterdir():
        if path.name != "bench":
            (root / "gradkernels" / path.name).symlink_to(path)
    with worker_on(Side("old", root)) as one:
        one.send(ListKernels(str(here().root), ("norms",)))
        keys = {f"{kernel.way}.{kernel.quantity}" for kernel in one.receive(KernelsListed).kernels}
    assert "numpy.broadcast+.norms" in keys
    assert all(re.fullmatch(r"\w+\.\w+\+?\.norms", key) for key in keys)
    assert not Path(root / "gradkernels" / "bench").exists()
