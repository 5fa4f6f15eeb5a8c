"""captum's TracInCP by itself and through the door: the same influences, self-influences and proponents."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

influence = pytest.importorskip("captum.influence", reason="needs captum")

from gradkernels.adapters.captum import TracInCP  # noqa: E402

TRAIN, TEST, BATCH = 20, 6, 8
RATES = {"first": 0.1, "second": 0.05}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double().eval()


def samples(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, generator=generator, dtype=torch.float64), torch.randint(3, (n,), generator=generator)


def load(model, checkpoint):
    torch.manual_seed(len(checkpoint))
    for parameter in model.parameters():
        parameter.data.normal_()
    return RATES[checkpoint]


def tracin(kind, loss=None, **options):
    loss = loss or nn.CrossEntropyLoss(reduction="none")
    return kind(
        network(), TensorDataset(*samples(TRAIN, 1)), list(RATES), load, loss_fn=loss, batch_size=BATCH, **options
    )


def pair(**options):
    return tracin(influence.TracInCP, **options), tracin(TracInCP, **options)


OPTIONS = {
    "one by one": {},
    "the sum of a batch": {"loss": nn.CrossEntropyLoss(reduction="sum"), "sample_wise_grads_per_batch": True},
    "the mean of a batch": {"loss": nn.CrossEntropyLoss(), "sample_wise_grads_per_batch": True},
    "one layer": {"layers": ["2"]},
    "another loss of tests": {"test_loss_fn": lambda output, y: output[:, 0]},
    "a function": {"loss": lambda output, y: nn.functional.cross_entropy(output, y, reduction="none")},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_influences_are_those_of_captum(options):
    own, ours = pair(**options)
    test = samples(TEST, 2)
    wanted = own.influence(test)
    assert wanted.shape == (TEST, TRAIN)
    torch.testing.assert_close(ours.influence(test), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_questions_have_the_same_answers():
    own, ours = pair()
    test = DataLoader(TensorDataset(*samples(TEST, 2)), 4)
    torch.testing.assert_close(ours.influence(test, aggregate=True), own.influence(test, aggregate=True))
    torch.testing.assert_close(ours.self_influence(), own.self_influence())
    torch.testing.assert_close(
        ours.self_influence(outer_loop_by_checkpoints=True), own.self_influence(outer_loop_by_checkpoints=True)
    )
    found, wanted = (one.influence(test, k=3) for one in (ours, own))
    assert found.indices.tolist() == wanted.indices.tolist()
    torch.testing.assert_close(found.influence_scores, wanted.influence_scores)
