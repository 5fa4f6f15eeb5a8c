"""What calls cost beside each other: on one thread, in turns, by the processor's time of the calling thread."""

from __future__ import annotations

import time
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

import gradkernels as gk
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up
from gradkernels.tree import count, each

SECONDS = 4.0


@contextmanager
def alone():
    """One thread, the same numbers each time, and no audits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with gk.audit("off"):
        yield
    torch.set_num_threads(before)


def processor_time(call, iterations):
    start = time.thread_time()
    for _ in range(iterations):
        call()
    return (time.thread_time() - start) / iterations


def interleaved(**calls):
    """Seconds of each call, one for each slice, measured in turns."""
    timed = [TimedCall(name, call, clock=processor_time) for name, call in calls.items()]
    for one in timed:
        warm_up(one, 0.5)
    time_interleaved(timed, SECONDS, lambda: None, np.random.default_rng(0))
    return {one.name: np.array(one.slices) for one in timed}


def beyond(slices, other, base):
    """What one call takes beyond another one, in the tenth of their slices that is disturbed least."""
    return float(np.quantile(slices[other], 0.1) - np.quantile(slices[base], 0.1))


def deep(layers, width=16):
    return nn.Sequential(*[one for _ in range(layers) for one in (nn.Linear(width, width), nn.Tanh())])


def sized(example, n):
    index = torch.arange(n) % count(example[1])
    return tuple(each(lambda one: one[index], part) for part in example)
