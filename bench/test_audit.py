"""What the audit costs over a thousand steps, as a share of the steps' own time within one run.

`pytest bench/test_audit.py -s` prints the shares beside the limit. Only audits are timed apart; all that a call costs
besides, proofs included, counts as its step. An audit takes about as long as one pass of a batch; where that is hardly
longer than a pass of one sample, as for the small MLP, it is a hundredth and a half.
"""

from __future__ import annotations

from time import perf_counter

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.dispatch import dispatcher

STEPS = 1000
LIMITS = {"cnn": 0.01, "mlp": 0.02}


def cnn():
    layers = nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 32, 4, 2), nn.ReLU()
    model = nn.Sequential(*layers, nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, torch.randn(64, 1, 28, 28)


def mlp():
    return nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10)), torch.randn(256, 64)


@pytest.mark.parametrize("make", [cnn, mlp])
@pytest.mark.parametrize("quantity", ["clipped_sum", "norms", "per_sample"])
def test_audits_cost_little_of_the_steps(make, quantity, monkeypatch):
    torch.manual_seed(0)
    model, x = make()
    y = torch.randint(10, (len(x),))
    problem, spent, really = gk.ModuleProblem(model, nn.functional.cross_entropy), [], dispatcher.audit_call

    def timed(*given):
        started = perf_counter()
        really(*given)
        spent.append(perf_counter() - started)

    monkeypatch.setattr(dispatcher, "audit_call", timed)
    started = perf_counter()
    for _ in range(STEPS):
        getattr(gk, quantity)(problem, None, x, y)
    steps = perf_counter() - started - sum(spent)
    share, limit = sum(spent) / steps, LIMITS[make.__name__]
    print(f"\n{make.__name__}, {quantity}, n = {len(x)}: {len(spent)} audits in {STEPS} steps of {steps:.3g} ms, "
          f"{share:.2%} of their time (limit {limit:.0%})")  # fmt: skip
    assert share <= limit
