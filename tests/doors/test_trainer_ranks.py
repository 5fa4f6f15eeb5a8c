"""Trainers in several processes: what is logged is of the samples of all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from gradkernels.adapters.training import other_processes
from gradkernels.adapters.training.seen_numbers import SeenNumbers
from gradkernels.quantity import Moments

ROWS = torch.tensor([[3.0, 4.0], [0.0, 2.0], [6.0, 8.0]], dtype=torch.float64)  # lengths 5, 2, 10
HERE, TESTS = Path(__file__).parent, Path(__file__).parents[1]


def seen(rows):
    """What a watch has seen of samples with these gradients."""
    moments = Moments({"w": rows.mean(0)}, {"w": rows.var(0, correction=0)})
    return SimpleNamespace(n=len(rows), norms=rows.norm(dim=1), moments=moments, history=[])


@pytest.fixture
def together(monkeypatch):
    """Have one sample here and two in another process."""
    here, there = seen(ROWS[:1]), seen(ROWS[1:])
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)

    def gather(parts, own):
        parts[:] = [own, (there.n, there.norms)]

    def add(sums):
        totals = ROWS[1:].sum(0)
        sums += torch.cat([totals, torch.stack([ROWS[1:].square().sum(), torch.tensor(2.0, dtype=sums.dtype)])])

    monkeypatch.setattr(dist, "all_gather_object", gather)
    monkeypatch.setattr(dist, "all_reduce", add)
    return here


def test_what_processes_have_seen_is_joined(together):
    found = other_processes.joined_summaries(together, ["noise_scale", "norms", "moments"])
    assert found["norms"] == {"mean": pytest.approx(17 / 3), "median": 5.0, "largest": 10.0}
    mean = (81 + 196) / 9  # of (9, 14) / 3
    assert found["moments"]["trace"] == pytest.approx(129 / 3 - mean)
    assert found["moments"]["norm of mean"] == pytest.approx(mean**0.5)
    assert found["noise_scale"]["value"] == pytest.approx(43 / mean - 1)
    numbers = SeenNumbers(together, ["norms"], processes=2)
    numbers.end_step()
    assert numbers.take() == {}  # the step was not looked at
    together.history.append(None)
    numbers.end_step()
    assert numbers.take()["gradients/norms_largest"] == 10.0
    assert numbers.take() == {}


def test_quantities_that_do_not_follow_are_refused(together):
    with pytest.raises(ValueError, match="gram of the samples of several processes does not follow"):
        SeenNumbers(together, ["norms", "gram"], processes=2)


def test_two_processes_log_the_numbers_of_all_samples(tmp_path, long):
    if not long or find_spec("lightning") is None:
        pytest.skip("--long: two processes import transformers and Lightning")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    where = os.pathsep.join([*map(str, (TESTS.parent, TESTS, HERE)), os.environ.get("PYTHONPATH", "")])
    subprocess.run([*command, HERE / "trainer_ranks.py", tmp_path], check=True, env=os.environ | {"PYTHONPATH": where})
    for rank in range(2):
        for what, (logged, own) in torch.load(tmp_path / f"{rank}.pt").items():
            rows = torch.stack([torch.cat([one.flatten() for one in sample.values()]) for sample in own])
            norms, mean = rows.norm(dim=1), rows.mean(0)
            scale = float(norms.square().mean() / mean.square().sum()) - 1
            assert logged["gradients/norms_mean"] == pytest.approx(float(norms.mean()), rel=2e-5), what
            assert logged["gradients/norms_median"] == pytest.approx(float(norms.median()), rel=2e-5), what
            assert logged["gradients/norms_largest"] == pytest.approx(float(norms.max()), rel=2e-5), what
            assert logged["gradients/noise_scale"] == pytest.approx(scale, rel=1e-4), what
