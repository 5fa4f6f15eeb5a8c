"""`adapters.transformers`: what a Trainer's steps show of their samples, against each sample's own backward pass."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from real.families import tr

import gradkernels as gk
from gradkernels.adapters.noisy_steps import NoisySteps
from gradkernels.adapters.transformers import GradientCallback, require_settings


def small(kind=tr.BertForSequenceClassification, config=tr.BertConfig):
    torch.manual_seed(0)
    options = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = config(**options, intermediate_size=32, max_position_embeddings=16, num_labels=3)
    made.hidden_dropout_prob = made.attention_probs_dropout_prob = made.attention_dropout = 0.0
    return kind(made)


def samples(n, words=False):
    ids = torch.randint(50, (n, 6), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": one, "labels": one.clone() if words else one.sum() % 3} for one in ids]


def train(model, data, folder, callback, **options):
    given = {"per_device_train_batch_size": 4, "learning_rate": 0.1, "optim": "sgd", "lr_scheduler_type": "constant",
             "logging_steps": 1, "max_steps": 1, "disable_tqdm": True, "report_to": [], "use_cpu": True,
             "save_strategy": "no", "train_sampling_strategy": "sequential"} | options  # fmt: skip
    kind = given.pop("kind", tr.Trainer)
    arguments = tr.TrainingArguments(output_dir=str(folder), **given)
    trainer = kind(model, arguments, train_dataset=data, callbacks=[callback] if callback else None)
    trainer.train()
    return trainer


def own_gradients(model, data):
    """Each sample's, alone: the oracle."""
    found = []
    for one in data:
        model.zero_grad()
        model(**{name: value[None] for name, value in one.items()}).loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    model.zero_grad()
    return found


def lengths(gradients):
    return torch.tensor([math.sqrt(sum(float(g.square().sum()) for g in one.values())) for one in gradients])


def test_norms_and_noise_scale_are_in_the_log_of_the_trainer(tmp_path):
    model, data = small(), samples(4)
    own = own_gradients(model, data)
    trainer = train(model, data, tmp_path, GradientCallback(["norms", "noise_scale"]), max_grad_norm=0)
    (logged, *_) = trainer.state.log_history
    norms = lengths(own)
    mean = {name: torch.stack([one[name] for one in own]).mean(0) for name in own[0]}
    scale = float(norms.square().mean()) / float(lengths([mean])) ** 2 - 1
    assert logged["gradients/norms_mean"] == pytest.approx(float(norms.mean()), rel=1e-5)
    assert logged["gradients/norms_largest"] == pytest.approx(float(norms.max()), rel=1e-5)
    assert logged["gradients/noise_scale"] == pytest.approx(scale, rel=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


KINDS = {
    "classes": (tr.BertForSequenceClassification, tr.BertConfig, False),
    "words": (tr.LlamaForCausalLM, tr.LlamaConfig, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_several_batches_has_the_norms_of_all_its_samples(kind, tmp_path):
    made, config, words = KINDS[kind]
    model, data = small(made, config), samples(7, words)
    expected = lengths(own_gradients(model, data))
    callback = GradientCallback(["norms", "noise_scale"])
    trainer = train(model, data, tmp_path, callback, gradient_accumulation_steps=2, learning_rate=0.0)
    assert callback.seen.n == 7
    np.testing.assert_allclose(callback.seen.norms, expected, rtol=2e-5)
    assert trainer.state.log_history[0]["gradients/noise_scale"] > 0


def test_a_loss_that_the_trainer_divides_itself_is_multiplied_back(tmp_path):
    model, data = small(), samples(20)
    expected = lengths(own_gradients(model, data))
    model.accepts_loss_kwargs = False
    callback = GradientCallback("norms")
    seen = []
    callback.on_step_end = lambda *given, **at: seen.append(callback.seen.norms)
    options = {"gradient_accumulation_steps": 3, "learning_rate": 0.0, "max_steps": 2}
    train(model, data, tmp_path, callback, **options)
    np.testing.assert_allclose(torch.cat(seen), expected, rtol=2e-5)  # a step of three batches, and one of two


def test_only_each_second_step_is_looked_at(tmp_path):
    callback = GradientCallback(["norms"], every=2)
    trainer = train(small(), samples(16), tmp_path, callback, max_steps=4)
    assert ["gradients/norms_mean" in one for one in trainer.state.log_history[:4]] == [True, False, True, False]


def test_a_noisy_step_is_the_clipped_sum_and_the_noise_over_the_number_of_samples(tmp_path):
    model, data = small(), samples(4)
    own, before = own_gradients(model, data), copy.deepcopy(dict(model.named_parameters()))
    limit = float(lengths(own).median())
    noisy = NoisySteps(limit, 0.5, generator=torch.Generator().manual_seed(3))
    train(model, data, tmp_path, GradientCallback(noisy=noisy), max_grad_norm=0)
    generator = torch.Generator().manual_seed(3)
    weights = (limit / lengths(own)).clamp(max=1)
    for name, p in model.named_parameters():
        total = sum(float(w) * one[name] for w, one in zip(weights, own, strict=True))
        noise = torch.normal(0.0, 0.5 * limit, p.shape, generator=generator)
        torch.testing.assert_close(p, before[name] - 0.1 * (total + noise) / 4, rtol=1e-5, atol=1e-6)


class AroundModel(tr.Trainer):
    """Calls parts of the model, and not the model."""

    def compute_loss(self, model, inputs, **others):
        output = model.bert(input_ids=inputs["input_ids"])
        return torch.nn.functional.cross_entropy(model.classifier(output.pooler_output), inputs["labels"])


def test_no_step_is_made_with_gradients_that_are_not_clipped(tmp_path):
    model, callback = small(), GradientCallback(noisy=NoisySteps())
    with pytest.raises(ValueError, match=r"^classifier.bias.grad holds what a backward pass has left there"):
        train(model, samples(4), tmp_path, callback, max_grad_norm=0, kind=AroundModel)
    assert all(torch.equal(p, other) for p, other in zip(model.parameters(), small().parameters(), strict=True))
    assert callback.seen is not None
    callback.leave()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_noise_knows_the_sensitivity_of_groups():
    linear = torch.nn.Linear(2, 3)
    for one in linear.parameters():
        one.grad = torch.zeros_like(one)
    noisy = NoisySteps(2.0, 1.5, by="parameter", generator=torch.Generator().manual_seed(0))
    noisy.finish(dict(linear.named_parameters()), 8)
    generator = torch.Generator().manual_seed(0)
    for one in linear.parameters():  # the two lengths of 2 together: 2 * sqrt(2)
        torch.testing.assert_close(one.grad, torch.normal(0.0, 1.5 * 2**1.5, one.shape, generator=generator) / 8)


def test_frozen_parameters_get_no_noise():
    linear = torch.nn.Linear(2, 3)
    linear.weight.requires_grad_(False)
    NoisySteps(noise_multiplier=1.0).finish(dict(linear.named_parameters()), 8)
    assert linear.weight.grad is None
    assert linear.bias.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_grad_norm": 1.0}, "max_grad_norm=1.0 would cut"),
        ({"max_grad_norm": 0, "fp16": True}, "bf16=True"),
        ({"torch_compile": True}, "torch_compile=True would compile the watch"),
    ],
)
def test_settings_with_which_numbers_would_be_wrong_are_refused(options, says, tmp_path):
    arguments = tr.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for name, value in options.items():
        setattr(arguments, name, value)
    with pytest.raises(ValueError, match=says):
        GradientCallback(noisy=NoisySteps()).on_train_begin(arguments, None, None, model=small())


def test_settings_of_several_processes_that_do_not_fit_are_refused():
    plain = {"n_gpu": 0, "world_size": 2, "fsdp": None, "deepspeed": None, "torch_compile": False, "fp16": False}
    require_settings(SimpleNamespace(**plain), None)
    with pytest.raises(ValueError, match="use the PrivacyEngine of gradkernels.adapters.opacus"):
        require_settings(SimpleNamespace(**plain), NoisySteps(1.0, 0.5))
    with pytest.raises(ValueError, match="leave out fsdp and deepspeed"):
        require_settings(SimpleNamespace(**plain | {"deepspeed": "zero.json"}), None)
    with pytest.raises(ValueError, match="start the training by torchrun"):
        require_settings(SimpleNamespace(**plain | {"n_gpu": 2}), None)


@pytest.mark.parametrize("options", [{"noise_multiplier": -1.0}, {"noise_multiplier": 1.0, "rule": torch.sqrt}])
def test_noise_that_is_none_is_refused(options):
    with pytest.raises(ValueError, match="noise_multiplier"):
        NoisySteps(**options)


def test_reporters_that_come_first_get_the_numbers_too(tmp_path):
    heard = []

    class Reporter(tr.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **at):
            heard.append("gradients/norms_mean" in logs)

    arguments = tr.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, max_steps=1, logging_steps=1,
                                     disable_tqdm=True, report_to=[], save_strategy="no")  # fmt: skip
    trainer = tr.Trainer(small(), arguments, train_dataset=samples(8), callbacks=[Reporter()])
    GradientCallback(["norms"]).add_to(trainer)
    trainer.train()
    assert heard[0]


def test_a_loop_of_accelerate_has_the_norms_of_its_samples():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model, data = small(), samples(8)
    expected = lengths(own_gradients(model, data))
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    model, optimizer, loader = accelerator.prepare(model, optimizer, torch.utils.data.DataLoader(data, 4))
    with gk.watch(model, ["norms"], scale=1 / 2) as seen:
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(**batch).loss)
                optimizer.step()
        seen.step()
    np.testing.assert_allclose(seen.norms, expected, rtol=2e-5)
