"""A process that is forked while another thread computes: the child neither waits for ever nor has half a model."""

from __future__ import annotations

import os
import threading

import pytest
import torch
from torch import nn

import gradkernels as gk

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning"),  # of JAX, where another test has loaded it
]


def test_a_fork_waits_for_a_thread_that_has_exchanged_parameters():
    problem = gk.ModuleProblem(nn.Linear(2, 1), nn.MSELoss())
    own, other = problem.parameters()["weight"], torch.zeros(1, 2)
    inside, go_on = threading.Event(), threading.Event()

    def compute():
        with problem.lock(), problem.with_parameters({"weight": other, "bias": torch.zeros(1)}):
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=compute)
    thread.start()
    assert inside.wait(10)
    threading.Timer(0.05, go_on.set).start()
    child = os.fork()
    if not child:
        free = problem.lock().acquire(blocking=False)  # type: ignore[attr-defined]
        os._exit(0 if free and problem.model.weight is own else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join(10)
    with problem.lock():
        assert problem.model.weight is own
