"""Steps of DP-SGD in loops of others: with the same noise, the parameters that Opacus' hooks lead to."""

from __future__ import annotations

import copy

import pytest
import torch
from real.families import tr
from torch.nn.functional import cross_entropy

import gradkernels as gk
from gradkernels.adapters.noisy_steps import NoisySteps

opacus = pytest.importorskip("opacus", reason="opacus is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def bert():
    torch.manual_seed(0)
    config = tr.BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=2,
                           intermediate_size=32, max_position_embeddings=8,
                           hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip
    return tr.BertForSequenceClassification(config).train()


def batches(steps, n=8):
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        ids = torch.randint(1, 40, (n, 6), generator=generator)  # Opacus gives the padding, word 0, a gradient
        given = {"input_ids": ids, "token_type_ids": ids * 0, "position_ids": torch.arange(6).expand(n, -1)}
        yield given, (ids[:, 0] > 19).long()


def by_opacus(model, steps):
    model = opacus.GradSampleModule(model)
    options = {"noise_multiplier": 0.3, "max_grad_norm": 1.0, "expected_batch_size": 8}
    sgd = torch.optim.SGD(model.parameters(), 0.2)
    optimizer = opacus.optimizers.DPOptimizer(sgd, **options, generator=torch.Generator().manual_seed(9))
    for given, y in batches(steps):
        optimizer.zero_grad()
        cross_entropy(model(**given).logits, y).backward()
        optimizer.step()
    return model._module


def by_watch(model, steps):
    noisy = NoisySteps(1.0, 0.3, generator=torch.Generator().manual_seed(9))
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    with gk.watch(model) as seen:
        noisy.begin(seen)
        for given, y in batches(steps):
            optimizer.zero_grad()
            cross_entropy(model(**given).logits, y).backward()
            noisy.finish(dict(model.named_parameters()), 8)
            optimizer.step()
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_parameters_of_a_bert_are_those_that_opacus_leads_to(dtype, long):
    model, steps = bert().to(dtype), 50 if long else 3
    ours, theirs = by_watch(copy.deepcopy(model), steps), by_opacus(model, steps)
    for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")
