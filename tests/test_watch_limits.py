"""Products of a watched step under a limit of memory: of the rows of a few samples at a time, with equal values."""

import pytest
import torch
from torch import nn
from watched import MAKERS, rows_of

import gradkernels as gk
from gradkernels.engines.hooks.accumulate import accumulators, pieces


@pytest.fixture
def formed(monkeypatch):
    """Bytes of the rows that are formed at a time, in pieces and whole."""
    sizes = []

    class Memory(accumulators.RowMemory):
        def __init__(self, out):
            super().__init__(out)
            sizes.append(sum(one.nbytes for one in out.values()))

    for module in (accumulators, pieces):
        monkeypatch.setattr(module, "RowMemory", Memory)
    return sizes


KINDS = (
    "mlp",
    "one sample",
    "checkpointed",
    "convolutions",
    "lstm",
    "tied transformer",
    "weight norm",
    "bare parameters",
)


@pytest.mark.parametrize("kind", KINDS)
def test_products_in_pieces_are_those_of_single_samples(kind, formed):
    watched = MAKERS[kind]()
    rows, n = rows_of(watched), len(watched.batch[0])
    sizes = [one.numel() * one.element_size() for one in watched.model.parameters() if one.requires_grad]
    width = rows.element_size()
    for samples in (1, 2):  # of which rows are there at a time, for the gram matrix of as many more
        outer, gram = 2 * samples * sum(sizes), 2 * samples * max(sizes)
        limits = {"outer": outer + rows.shape[1] ** 2 * width, "gram": gram + n**2 * width}
        for quantity, expected in (("outer", rows.T @ rows), ("gram", rows @ rows.T)):
            formed.clear()
            with gk.watch(watched.model, [quantity], max_bytes=limits[quantity]) as seen:
                watched.loss(watched.model, *watched.batch).backward()
            torch.testing.assert_close(getattr(seen, quantity), expected, rtol=1e-5, atol=1e-5 * float(expected.max()))
            watched.model.zero_grad()
            assert max(formed, default=0) <= (outer if quantity == "outer" else gram) // 2
            assert quantity == "gram" or n == 1 or len(formed) >= n / samples


def test_two_quantities_share_the_limit(formed):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv1d(2, 3, 2, dtype=torch.float64), nn.Flatten()), torch.randn(6, 2, 5).double()
    sums = x.unfold(2, 2, 1).sum(2).flatten(1)
    rows = torch.cat([sums, sums, sums, torch.full((6, 3), 4.0)], 1)
    room = (2 * 2 * 15 + 15**2 + 2 * 2 * 12 + 6**2) * 8  # rows of two samples for `outer`, of two by two for `gram`
    with gk.watch(model, ["gram", "outer"], reduction="sum", max_bytes=room) as seen:
        model(x).sum().backward()
    torch.testing.assert_close(seen.gram, rows @ rows.T)
    torch.testing.assert_close(seen.outer, rows.T @ rows)
    assert max(formed) <= 2 * 15 * 8
    too_little, says = (2 * 15 + 15**2 + 2 * 12 + 6**2) * 8 - 1, "take at least 2520 bytes, 2040 of them for outer"
    with (
        gk.watch(model, ["gram", "outer"], reduction="sum", max_bytes=too_little),
        pytest.raises(gk.CannotWatch, match=f"{says}, and max_bytes=2519"),
    ):
        model(x)
