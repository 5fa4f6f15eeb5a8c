"""dattri's attributors with its own task and with ours: the same rows and the same scores."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("dattri", reason="needs dattri")
from dattri.algorithm.tracin import TracInAttributor
from dattri.task import AttributionTask as OwnTask

from gradkernels.adapters.dattri import AttributionTask


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def samples(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, generator=generator, dtype=torch.float64), torch.randint(3, (n,), generator=generator)


def task(kind, value=None, **options):
    model = network()

    def loss(params, data):
        x, y = data
        output = torch.func.functional_call(model, params, x.unsqueeze(0))
        return (value or nn.functional.cross_entropy)(output, y.unsqueeze(0))

    states = [{name: scale * one for name, one in model.state_dict().items()} for scale in (1.0, 0.5)]
    return kind(loss_func=loss, model=model, checkpoints=states, **options)


def gradients(kind, of="loss", in_dims=(None, 0), layer_name=None, data=None):
    made = task(kind)
    parameters, _ = made.get_param(1, layer_name=layer_name)
    get = made.get_grad_loss_func if of == "loss" else made.get_grad_target_func
    return get(in_dims, layer_name, 1)(parameters, data or samples(6))


@pytest.mark.parametrize("of", ["loss", "target"])
@pytest.mark.parametrize("layer_name", [None, ["2.weight"], ["2.bias", "0.weight"]])
def test_rows_are_those_of_dattri(of, layer_name):
    wanted, found = (gradients(kind, of, layer_name=layer_name) for kind in (OwnTask, AttributionTask))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_rows_are_those_at_the_parameters_that_are_given():
    made = task(AttributionTask)
    gradient = made.get_grad_loss_func((None, 0))
    parameters, _ = made.get_param(0)
    own = task(OwnTask).get_grad_loss_func((None, 0))
    for scale in (1.0, 0.3):
        torch.testing.assert_close(
            gradient(scale * parameters, samples(4)), own(scale * parameters.detach(), samples(4))
        )


def test_samples_along_the_second_axis_keep_the_first():
    """As dattri's influence functions have them: each sample is a batch of one."""
    model = network()

    def loss(params, data):
        return nn.functional.cross_entropy(torch.func.functional_call(model, params, data[0]), data[1])

    data = tuple(one.unsqueeze(0) for one in samples(6))
    tasks = [kind(loss_func=loss, model=model, checkpoints=model.state_dict()) for kind in (OwnTask, AttributionTask)]
    wanted, found = (one.get_grad_loss_func((None, 1))(one.get_param()[0], data) for one in tasks)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_tracin_has_the_same_scores():
    train, test = (DataLoader(TensorDataset(*samples(n, n)), 4) for n in (12, 5))
    scores = [
        TracInAttributor(task(kind), [0.1, 0.05], normalized_grad=False, device="cpu").attribute(train, test)
        for kind in (OwnTask, AttributionTask)
    ]
    assert scores[0].shape == (12, 5)
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-6, atol=1e-8)


def test_the_model_answers_itself_again():
    made = task(AttributionTask)
    made.get_grad_loss_func((None, 0))(made.get_param()[0], samples(3))
    assert "forward" not in vars(made.model)


def test_a_loss_with_another_use_of_parameters_is_refused():
    model = network()

    def loss(params, data):
        output = torch.func.functional_call(model, params, data[0].unsqueeze(0))
        return nn.functional.cross_entropy(output, data[1].unsqueeze(0)) + sum(
            one.square().sum() for one in params.values()
        )

    made = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())
    with pytest.raises(ValueError, match="is another than through its one call of the model"):
        made.get_grad_loss_func((None, 0))(made.get_param()[0], samples(3))
