"""`adapters.lightning`: what a Trainer's own steps show of their samples, against each sample's own backward pass."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from real.families import TORCHVISION
from torch.nn.functional import cross_entropy

pytest.importorskip("lightning", reason="lightning is not installed")
assert TORCHVISION is None or TORCHVISION  # lightning looks for a torchvision, which may be for another torch
from lightning.pytorch import LightningModule, Trainer  # noqa: E402

from gradkernels.adapters.lightning import LightningGradientCallback  # noqa: E402
from gradkernels.adapters.noisy_steps import NoisySteps  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

    def training_step(self, batch, at):
        x, y = batch
        return cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def loader(n=8, size=4):
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(n, 5, generator=generator), torch.randint(3, (n,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), size)


def train(module, batches, callback, **options):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, max_epochs=1, callbacks=[callback], **options)  # fmt: skip
    trainer.fit(module, batches)
    return trainer


def own_gradients(module, batches):
    found = []
    for x, y in zip(*batches.dataset.tensors, strict=True):
        loss = cross_entropy(module.model(x[None]), y[None])
        found.append(
            dict(zip(dict(module.named_parameters()), torch.autograd.grad(loss, [*module.parameters()]), strict=True))
        )
    return found


def lengths(gradients):
    return torch.tensor([float(sum(g.square().sum() for g in one.values())) ** 0.5 for one in gradients])


def test_norms_are_logged(tmp_path):
    module, batches = Classifier(), loader(n=4)
    expected = lengths(own_gradients(module, batches))
    trainer = train(module, batches, LightningGradientCallback(["norms", "noise_scale"], module="model"))
    assert float(trainer.logged_metrics["gradients/norms_mean"]) == pytest.approx(float(expected.mean()), rel=1e-5)
    assert float(trainer.logged_metrics["gradients/norms_largest"]) == pytest.approx(float(expected.max()), rel=1e-5)
    assert float(trainer.logged_metrics["gradients/noise_scale"]) > 0


def test_a_step_of_several_batches_has_the_norms_of_all_its_samples():
    module, batches = Classifier(), loader()
    expected = lengths(own_gradients(module, batches))
    callback = LightningGradientCallback(["norms", "noise_scale"], module="model")
    trainer = train(module, batches, callback, accumulate_grad_batches=2)
    np.testing.assert_allclose(callback.seen.norms, expected, rtol=1e-5)
    assert float(trainer.logged_metrics["gradients/noise_scale"]) > 0


def test_a_noisy_step_is_the_clipped_sum_and_the_noise_over_the_number_of_samples():
    module, batches = Classifier(), loader()
    own, before = own_gradients(module, batches), copy.deepcopy(dict(module.named_parameters()))
    limit = float(lengths(own).median())
    noisy = NoisySteps(limit, 0.5, generator=torch.Generator().manual_seed(3))
    train(module, batches, LightningGradientCallback(module="model", noisy=noisy), accumulate_grad_batches=2)
    generator, weights = torch.Generator().manual_seed(3), (limit / lengths(own)).clamp(max=1)
    for name, p in module.named_parameters():
        total = sum(float(w) * one[name] for w, one in zip(weights, own, strict=True))
        noise = torch.normal(0.0, 0.5 * limit, p.shape, generator=generator)
        torch.testing.assert_close(p, before[name] - 0.1 * (total + noise) / 8, rtol=1e-5, atol=1e-6)


def test_settings_with_which_numbers_would_be_wrong_are_refused():
    noisy = LightningGradientCallback(module="model", noisy=NoisySteps())
    with pytest.raises(ValueError, match="gradient_clip_val=1.0 would cut"):
        train(Classifier(), loader(), noisy, gradient_clip_val=1.0)
    module = Classifier()
    module.automatic_optimization = False
    with pytest.raises(ValueError, match="use gk.watch there"):
        train(module, loader(), LightningGradientCallback())


def test_hooks_are_gone_after_a_training_that_fails():
    module = Classifier()
    module.on_train_batch_end = lambda *given: 1 / 0
    with pytest.raises(ZeroDivisionError):
        train(module, loader(), LightningGradientCallback(module="model"))
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())


class WithHead(Classifier):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 3)

    def training_step(self, batch, at):
        x, y = batch
        return cross_entropy(self.head(self.model(x)), y)


def test_a_parameter_that_would_get_noise_without_being_clipped_is_refused():
    private = LightningGradientCallback(module="model", noisy=NoisySteps())
    with pytest.raises(ValueError, match=r"^head.weight, head.bias would get noise without being clipped"):
        train(WithHead(), loader(), private)
    module = WithHead()
    module.head.requires_grad_(False)
    train(module, loader(), private)
    train(WithHead(), loader(), LightningGradientCallback(["norms"], module="model"))


class AroundModel(Classifier):
    """Calls the layers of its model, and not the model, in each batch but the first one."""

    def training_step(self, batch, at):
        x, y = batch
        return cross_entropy(self.model(x) if at == 0 else self.model[2](self.model[1](self.model[0](x))), y)


@pytest.mark.parametrize(("parts", "steps"), [(1, 2), (2, 1)])
def test_no_step_is_made_with_gradients_that_are_not_clipped(parts, steps):
    module = AroundModel()
    with pytest.raises(ValueError, match=r"^2.bias.grad holds what a backward pass has left there without a call"):
        train(module, loader(), LightningGradientCallback(module="model", noisy=NoisySteps()),
              accumulate_grad_batches=parts, max_steps=steps)  # fmt: skip
    pairs = zip(module.parameters(), Classifier().parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs) == (parts == 2)


def test_no_step_is_made_with_a_parameter_that_is_trained_from_now_on_and_is_not_watched():
    module = WithHead()
    module.head.requires_grad_(False)
    module.on_train_batch_start = lambda *given: module.head.requires_grad_(True) and None
    with pytest.raises(ValueError, match=r"steps with a parameter \(3, 3\) that the watched module does not hold"):
        train(module, loader(), LightningGradientCallback(module="model", noisy=NoisySteps()))
