"""TRAK by its own gradient computer and by ours: the same features and scores under the same projection."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("trak", reason="needs traker")
from trak import TRAKer
from trak.gradient_computers import FunctionalGradientComputer
from trak.modelout_functions import AbstractModelOutput, ImageClassificationModelOutput
from trak.projectors import NoOpProjector

import gradkernels as gk
from gradkernels.adapters.trak import GradientComputer, projected

TRAIN, TARGETS, SIZE = 24, 6, 16
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def cnn():
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(16, 5)).eval()


def images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 6, 6, generator=generator), torch.randint(5, (n,), generator=generator)


def traker(computer, folder, model, task="image_classification", **options):
    return TRAKer(
        model, task, TRAIN, save_dir=str(folder), device="cpu", gradient_computer=computer, use_half_precision=False,
        logging_level=50, **{"proj_dim": SIZE} | options,
    )  # fmt: skip


def scores(traker, model, batches=None, targets=None):
    """What trak's quickstart does: features, then scores of targets, for two checkpoints."""
    states = (
        model.state_dict(),
        {name: one + 0.01 for name, one in model.state_dict().items() if one.is_floating_point()},
    )
    for number, state in enumerate(states):
        state = {**model.state_dict(), **state}
        traker.load_checkpoint(state, model_id=number)
        for batch in batches or (images(16), images(8, 1)):
            traker.featurize(batch, num_samples=len(batch[0]))
    traker.finalize_features()
    for number, state in enumerate(states):
        traker.start_scoring_checkpoint("targets", {**model.state_dict(), **state}, number, TARGETS)
        traker.score(targets or images(TARGETS, 2), num_samples=TARGETS)
    return np.array(traker.finalize_scores("targets"))


def test_scores_are_those_of_traks_own_computer(tmp_path):
    own = scores(traker(FunctionalGradientComputer, tmp_path / "own", model := cnn()), model)
    ours = scores(traker(GradientComputer, tmp_path / "ours", model := cnn()), model)
    np.testing.assert_allclose(ours, own, atol=2e-4 * abs(own).max())
    assert np.corrcoef(ours.ravel(), own.ravel())[0, 1] > 1 - 1e-7


@pytest.mark.parametrize("only", [None, ["5.weight", "0.bias"]])
def test_gradients_are_those_of_traks_own_computer(only):
    model, batch, task = cnn().double(), images(5), ImageClassificationModelOutput()
    batch = batch[0].double(), batch[1]
    wanted, found = (
        kind(model, task, 100, torch.float64, "cpu", only).compute_per_sample_grad(batch)
        for kind in (FunctionalGradientComputer, GradientComputer)
    )
    assert list(found) == list(wanted)
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-9, atol=1e-12)


class TextOutput(AbstractModelOutput):
    """A log-probability of a model that is called by name, and takes a constant."""

    def __init__(self):
        pass

    @staticmethod
    def get_output(model, weights, buffers, tokens, label):
        named = {"tokens": tokens.unsqueeze(0), "scale": 2.0}
        logits = torch.func.functional_call(model, (weights, buffers), args=(), kwargs=named)
        return -nn.functional.cross_entropy(logits, label.unsqueeze(0))

    def get_out_to_loss_grad(self, model, weights, buffers, batch):
        return torch.ones(len(batch[0]), 1)


class Texts(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, tokens, scale):
        return scale * self.head(self.words(tokens).mean(1))


def test_another_task_with_arguments_by_name():
    torch.manual_seed(1)
    model, batch = Texts(), (torch.randint(9, (4, 5)), torch.randint(3, (4,)))
    wanted, found = (
        kind(model, TextOutput(), 51, torch.float32, "cpu").compute_per_sample_grad(batch)
        for kind in (FunctionalGradientComputer, GradientComputer)
    )
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-5, atol=1e-6)


def test_projections_in_the_pass_are_features_of_trak(tmp_path):
    model, batch = cnn(), images(16)
    computer = projected(SIZE, seed=3)
    ours = traker(computer, tmp_path, model, projector=NoOpProjector(proj_dim=SIZE, device="cpu"), proj_dim=None)
    ours.load_checkpoint(model.state_dict(), model_id=0)
    ours.featurize(batch, num_samples=16)
    entries = sum(one.numel() for one in model.parameters())
    kept = torch.as_tensor(np.array(ours.saver.current_store["grads"]))[:16]
    problem = gk.ModuleProblem(model, margin, reduction="sum", mixing="own")
    wanted = gk.project(problem, None, *batch, size=SIZE, seed=3) * (SIZE / entries) ** 0.5
    torch.testing.assert_close(kept, wanted, rtol=1e-4, atol=1e-5)


def margin(output, y):
    correct = output.gather(1, y[:, None])[:, 0]
    return (correct - output.scatter(1, y[:, None], -torch.inf).logsumexp(1)).sum()


def computer_of(model, task=None):
    return GradientComputer(model, task or ImageClassificationModelOutput(), 100, torch.float32, "cpu")


def of_task(get_output):
    return type("Task", (TextOutput,), {"get_output": staticmethod(get_output)})()


def called_with(change):
    def get_output(model, weights, buffers, image, label):
        return torch.func.functional_call(model, (weights, buffers), change(image)).sum()

    return get_output


def penalized(model, weights, buffers, image, label):
    output = torch.func.functional_call(model, (weights, buffers), image[None]).sum()
    return output + sum(one.square().sum() for one in weights.values())


@pytest.mark.parametrize(
    ("get_output", "says"),
    [
        (penalized, "by .* is another than through its one call of the model"),
        (
            called_with(lambda image: image[None] / 255),
            r"a tensor \(1, 3, 6, 6\) \(0\) that is no tensor of the sample",
        ),
        (lambda model, weights, buffers, image, label: model.encode_image(image), "more of the model than a call"),
        (lambda model, weights, buffers, image, label: image.sum(), "calls the model 0 times"),
    ],
)
def test_a_task_that_does_something_else_is_refused(get_output, says):
    with pytest.raises(ValueError, match=says):
        computer_of(cnn(), of_task(get_output)).compute_per_sample_grad(images(3))


def test_frozen_parameters_are_refused():
    model = cnn()
    model[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"0.weight and 1 more parameters do not require gradients"):
        computer_of(model).compute_per_sample_grad(images(3))
