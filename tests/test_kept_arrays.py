"""Arrays are kept while memory is free, as much of them as there is room for, and given back when it is not."""

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks.accumulate.random_matrices import RandomMatrices
from gradkernels.memory import free, kept_arrays
from gradkernels.memory.kept_arrays import KeptArrays, kept_on


class Makes:
    """Makes arrays of 100 bytes, and counts how often."""

    def __init__(self):
        self.made = []

    def __call__(self, kept, key):
        return kept.get(key, lambda: self.made.append(key) or np.zeros(100, np.uint8))


@pytest.fixture
def makes(monkeypatch):
    monkeypatch.setattr(kept_arrays, "LEAST_BYTES", 300)
    monkeypatch.setattr(kept_arrays, "SECONDS_BETWEEN_LOOKS", 0)
    return Makes()


def test_of_more_arrays_than_there_is_room_for_some_stay_in_each_round(makes):
    kept = KeptArrays(lambda: 0)
    for _ in range(5):
        for key in range(4):
            makes(kept, key)
    assert makes.made == [0, 1, 2, 3, 3, 3, 3, 3]
    assert kept.nbytes == 300


def test_what_is_used_no_more_makes_room_for_what_is_asked_for_again(makes):
    kept = KeptArrays(lambda: 0)
    for key in (0, 1, 2, "new", "new", "new", 1, 2, 0):
        makes(kept, key)
    assert makes.made == [0, 1, 2, "new", "new", 0]
    assert kept.nbytes == 300


def test_an_eighth_of_what_is_free_is_kept_and_given_back_when_less_is(makes):
    left = [8 * 600]
    kept = KeptArrays(lambda: left[0] - kept.nbytes)
    for key in range(6):
        makes(kept, key)
    assert kept.nbytes == 600
    left[0] = 8 * 400
    makes(kept, 5)
    assert kept.nbytes == 400
    assert [makes(kept, key) is not None for key in (2, 3, 4)]  # what was used last stays
    assert makes.made == [0, 1, 2, 3, 4, 5]
    assert kept.release() == 400
    assert kept.nbytes == 0


def test_an_array_larger_than_all_that_may_be_kept_is_not(makes):
    kept = KeptArrays(lambda: None)
    assert kept.get("large", lambda: np.zeros(301, np.uint8)).nbytes == 301
    assert kept.nbytes == 0


def test_matrices_of_a_projection_are_kept_in_the_dtype_that_they_are_used_in_until_released():
    gk.release()
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(600, 10), nn.CrossEntropyLoss())
    compute = gk.kernel("torch.hooks.project").build(problem)
    x, y = torch.randn(4, 600), torch.arange(4)
    want = compute(problem.parameters(), x, y, size=64)
    assert kept_on("cpu").nbytes == 4 * 64 * 6010
    first = [*RandomMatrices(problem.parameters(), (64, 0, "gaussian")).blocks("weight")]
    again = [*RandomMatrices(problem.parameters(), (64, 0, "gaussian")).blocks("weight")]
    assert [one is other for one, other in zip(first, again, strict=True)] == [True]
    assert torch.equal(compute(problem.parameters(), x, y, size=64), want)
    assert gk.release() == 4 * 64 * 6010
    assert torch.equal(compute(problem.parameters(), x, y, size=64), want)
    assert not kept_on("meta").nbytes


def test_free_memory_is_that_of_the_machine_or_what_is_left_of_the_container(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 90 kB\nMemAvailable: 50 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(free, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free, "CGROUPS", tmp_path)
    assert free.free_bytes() == 50 * 1024
    (tmp_path / "memory.max").write_text("21000\n")
    assert free.free_bytes() == 20000
    monkeypatch.setattr(free, "MEMINFO", tmp_path / "none")
    assert free.free_bytes() == 20000
    assert free.free_bytes("meta") is None
