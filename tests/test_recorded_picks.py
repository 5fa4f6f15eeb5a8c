"""Entries that data pick from each sample, as the state at the end of a padded text: recorded, for every quantity."""

import pytest
import torch
from every_quantity import CROSS_ENTROPY, require_equal
from matrices import matrix
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit

N, T, H = 6, 5, 4


class Picks(nn.Module):
    """A layer over words, of whose states some are read."""

    def __init__(self, pick):
        super().__init__()
        torch.manual_seed(0)
        self.pick, self.words = pick, nn.Embedding(9, 3, padding_idx=0)
        self.layer, self.head = nn.GRU(3, H, batch_first=True), nn.Linear(H, 3)

    def forward(self, ids):
        return self.head(self.pick(self.layer(self.words(ids))[0], (ids > 0).sum(1), ids))


PICKS = {
    "last": lambda states, lengths, ids: states[torch.arange(len(ids)), lengths - 1],
    "last, time first": lambda states, lengths, ids: states.transpose(0, 1)[lengths - 1, torch.arange(len(ids))],
    "several": lambda states, lengths, ids: states[torch.arange(len(ids))[:, None], ids % T].mean(1),
    "of all": lambda states, lengths, ids: states[:, torch.tensor([3, 1, 1])].sum(1),
    "gathered": lambda states, lengths, ids: states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, H))[:, 0],
}


def data():
    torch.manual_seed(1)
    return torch.randint(1, 9, (N, T)) * (torch.arange(T) < torch.tensor([2, 5, 1, 3, 5, 2])[:, None]), torch.arange(
        N
    ) % 3


@matrix("name,way", PICKS, ["hooks", "recorded"])
def test_every_quantity(name, way):
    require_equal(way, Picks(PICKS[name]).double(), *data())


def test_numbers_of_samples_made_by_python_are_left_to_the_hooks():
    model = Picks(lambda states, lengths, ids: states[range(len(ids)), lengths - 1, :]).double()
    require_equal("hooks", model, *data())
    problem = gk.ModuleProblem(model, CROSS_ENTROPY)
    with pytest.raises(Unfit):
        gk.kernel("torch.recorded.per_sample").build(problem)(problem.parameters(), *data())


def test_samples_that_data_pick_are_refused():
    model = Picks(lambda states, lengths, ids: states[ids[:, 0] % len(ids), lengths - 1]).double()
    problem = gk.ModuleProblem(model, CROSS_ENTROPY)
    for way in ("hooks", "recorded"):
        with pytest.raises(Unfit):
            gk.kernel(f"torch.{way}.per_sample").build(problem)(problem.parameters(), *data())
