"""What the engine does against each known fault switched off, one at a time: the audit alone finds the fault.

The first batch is one that hides the fault, so that the proof before the first call cannot see it.
"""

import warnings

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.dispatch.audit import AuditWarning, seeded_audits
from gradkernels.engines.hooks.capture.follow import indexing
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.problems.module.mode_key.tracker import ModeTracker

N, T, CAP = 32, 6, 0.95
LOSS = nn.CrossEntropyLoss()


class Sorted(nn.Module):
    """Runs a layer on samples sorted by length, and puts them back."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x, lengths):
        order = lengths.argsort(descending=True, stable=True)
        h = torch.tanh(self.layer(x[order]))[order.argsort()]
        words = torch.arange(T) < lengths[:, None]
        return self.out((h * words[..., None]).sum(1))


class Two(nn.Module):
    """Takes data from two places."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, u, v):
        return self.out(torch.tanh(self.a(u) + self.b(v)))


class Settings(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.tau = nn.Linear(4, 3), 1.0

    def forward(self, x):
        return self.layer(x) / self.tau


class Places:
    """Samples that change places are taken to be where they were; most sequences are as long as may be."""

    def __init__(self, patch):
        self.model = Sorted()
        patch.setattr(indexing, "_by_numbers", lambda call, one, axis, output: Axis(0))

    def data(self, first):
        short = torch.rand(N) > (1.0 if first else CAP)
        lengths = torch.where(short, torch.randint(1, T, (N,)), T)
        return torch.randn(N, T, 4), lengths


class FromGraph:
    """A layer whose data come from a graph is no source of gradients."""

    model_of, places = Settings, (0,)

    def __init__(self, patch):
        self.model, self.on = self.model_of(), False
        listen = Tape.listen

        def lost(tape, use, output, axis, data):
            number, known = len(tape.tracker.boundaries), len(tape.tracker.sources)
            listen(tape, use, output, axis, data)
            if self.on and number in self.places:
                del tape.tracker.sources[known:]

        patch.setattr(Tape, "listen", lost)

    def data(self, first):
        self.on = not first
        return (torch.randn(N, 4),)


class PartlyFromGraph(FromGraph):
    """The same of one of two layers."""

    model_of, places = Two, (1,)

    def data(self, first):
        return super().data(first) * 2


class Stale:
    """Nobody looks whether the model changed, and Opacus, which is asked for, computes with its copy of it."""

    def __init__(self, patch):
        self.model = Settings()
        stamp = gk.ModuleProblem(self.model, LOSS).mode_key()
        patch.setattr(ModeTracker, "key", lambda self: stamp)

    def data(self, first):
        self.model.tau = 1.0 if first else 0.5
        return (torch.randn(N, 4),)


class Halves:
    """Squares are taken in float16, whose range they leave."""

    def __init__(self, patch):
        self.model = Settings().half()
        for name, narrow in (("squared_row_norms", lambda g: g.flatten(1).square().sum(1)), ("widen", lambda one: one)):
            patch.setattr(f"gradkernels.engines.hooks.rules.linear.linear.{name}", narrow)
        patch.setattr(
            "gradkernels.engines.hooks.quantities._norms_from_squares",
            lambda engine, theta, x, y, squares: squares.sqrt(),
        )

    def data(self, first):
        return (torch.randn(N, 4).half() * (1 if first else 1000),)


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "clipped_sum"])
@pytest.mark.parametrize("fault", [Places, FromGraph, PartlyFromGraph, Stale, Halves])
def test_the_audit_alone_finds_it_within_16_calls(fault, quantity, long, monkeypatch):
    if fault is Halves and quantity == "per_sample":
        pytest.skip("rows have no squares")
    runs = 300 if long else 3
    missed = 0
    for seed in range(runs):
        with seeded_audits(seed), monkeypatch.context() as patch:
            torch.manual_seed(seed)
            missed += not found(fault(patch), quantity)
    print(f"{fault.__name__}, {quantity}: {missed} of {runs} missed")
    assert missed <= 0.01 * runs


def found(case, quantity):
    """Whether a kernel is set aside with a warning; one that is asked for raises."""
    problem, way = gk.ModuleProblem(case.model, LOSS), None
    if isinstance(case, Stale):
        way = "opacus.hooks" if quantity == "per_sample" else "opacus.hooks+"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for call in range(16):
            x, y = case.data(first=call == 0), torch.randint(3, (N,))
            try:
                getattr(gk, quantity)(problem, None, x if len(x) > 1 else x[0], y, kernel=way)
            except gk.Disagreement:
                return way is not None
            if any(one.category is AuditWarning and "set aside" in str(one.message) for one in said):
                return True
    return False


def test_the_warning_points_at_the_callers_line(monkeypatch):
    case = FromGraph(monkeypatch)
    problem, y = gk.ModuleProblem(case.model, LOSS), torch.arange(N) % 3
    gk.norms(problem, None, *case.data(first=True), y)
    with gk.audit("always"), pytest.warns(AuditWarning) as caught:
        gk.norms(problem, None, *case.data(first=False), y)
    assert [one.filename for one in caught] == [__file__]
