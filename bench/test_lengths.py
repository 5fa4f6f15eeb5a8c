"""Batches of texts of many lengths: recorded for each length, or padded by the caller to a few lengths.

`pytest bench/test_lengths.py -s` prints, for a small BERT whose batches of 8 texts are 16 to 63 tokens long, the
processor's time of a batch by `torch.hooks` and by `torch.recorded`, as they come and padded with the mask's zeros to
the next multiple of 16, and how far norms of padded texts are from those of the texts. About a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean, median
from time import thread_time

import pytest
import torch
from torch.nn import functional as F

import gradkernels as gk

BATCHES, SHORTEST, LONGEST, EVERY = 100, 16, 64, 16
CHECKED = 3
"""Calls before, so that what is imported and measured once counts for none."""


@pytest.fixture(scope="module")
def texts():
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from real.families import FAMILIES

    torch.set_num_threads(1)
    family, generator = FAMILIES["bert"], torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST, (BATCHES,), generator=generator).tolist()
    problem = gk.ModuleProblem(family.make(), family.loss, mixing="own")
    return problem, [family.data(8, seed=at, length=length) for at, length in enumerate(lengths)]


def padded(x):
    """Word numbers and mask with zeros up to the next multiple."""
    length = x["input_ids"].shape[1]
    return {name: F.pad(one, (0, -length % EVERY)) for name, one in x.items()}


def gone_through(problem, way, batches):
    """Norms of each batch, and seconds of a batch: the mean, with what is recorded, and the median."""
    compute, theta = gk.kernel(f"{way}.norms").build(problem), problem.parameters()
    for x, y in batches[:CHECKED]:
        compute(theta, *problem.prepared(x, y))
    found, seconds = [], []
    for x, y in batches:
        started = thread_time()
        found.append(compute(theta, *problem.prepared(x, y)))
        seconds.append(thread_time() - started)
    return found, fmean(seconds), median(seconds)


def test_lengths(texts):
    problem, batches = texts
    few = [(padded(x), y) for x, y in batches]
    runs = {
        "torch.hooks as they come": gone_through(problem, "torch.hooks", batches),
        "torch.recorded as they come": gone_through(problem, "torch.recorded", batches),
        "torch.hooks padded": gone_through(problem, "torch.hooks", few),
        "torch.recorded padded": gone_through(problem, "torch.recorded", few),
    }
    count = len({x["input_ids"].shape[1] for x, _ in batches})
    takes = (f"{name} {mean * 1e3:.1f} ms (median {middle * 1e3:.1f})" for name, (_, mean, middle) in runs.items())
    print(f"\n{BATCHES} batches of {count} lengths, the processor's time of a batch: {', '.join(takes)}")
    want, got = (torch.cat(runs[f"torch.hooks {how}"][0]) for how in ("as they come", "padded"))
    print(f"norms of padded texts differ by {((got - want).abs() / want).max():.1e} of a norm")
    assert runs["torch.recorded padded"][2] < runs["torch.hooks as they come"][2]
