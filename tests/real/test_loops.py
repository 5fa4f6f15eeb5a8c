"""What happens to a model in a loop that runs for a week: each step's clipped sum is right, whatever came before it."""

import copy

import pytest
import torch
from families import CLASSES, FAMILIES, language, next_words, rows, text, words
from matrices import matrix
from torch import nn
from torch.nn import functional as F

import gradkernels as gk

TOLERANCE = 1e-5
LIMIT = 0.5


def clipped(model, loss, x, y):
    """The clipped sum and the norms in double precision, by one backward pass for each sample alone."""
    want = rows(model, loss, x, y)
    norms = torch.stack([one.flatten(1).norm(dim=1) for one in want.values()]).norm(dim=0)
    factor = (LIMIT / norms).clamp(max=1)
    return {name: torch.tensordot(factor, one, 1) for name, one in want.items()}, norms


def agree(problem, model, loss, x, y):
    want, norms = clipped(model, loss, x, y)
    got = gk.clipped_sum(problem, None, x, y, max_norm=LIMIT)
    assert list(got) == list(want)
    for name, one in want.items():
        assert ((got[name].double() - one).abs() <= TOLERANCE * LIMIT * len(norms)).all(), name
    torch.testing.assert_close(gk.norms(problem, None, x, y).double(), norms, rtol=TOLERANCE, atol=0)
    return got


def fresh(name):
    family = FAMILIES[name]
    model = family.make()
    return model, family.loss, gk.ModuleProblem(model, family.loss, mixing="own")


def draws(seed=7):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_numbers_of_samples_as_poisson_sampling_draws_them(name):
    model, loss, problem = fresh(name)
    for n in (5, 3, 8, 1, 2, 7, 1, 4):
        x, y = FAMILIES[name].data(n, seed=n)
        agree(problem, model, loss, x, y)


def test_a_batch_of_nobody():
    model, _, problem = fresh("bert")
    x, y = text(0, True, draws())
    norms = gk.norms(problem, None, x, y)
    assert norms.shape == (0,)
    total = gk.clipped_sum(problem, None, x, y, max_norm=LIMIT)
    assert {name: one.shape for name, one in total.items()} == {n: p.shape for n, p in model.named_parameters()}
    assert not any(one.any() for one in total.values())
    x, y = text(4, False, draws())
    assert gk.norms(problem, None, x, y).shape == (4,)


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_as_long_as_the_longest_of_the_batch(name):
    model, loss, problem = fresh(name)
    for length in (10, 10, 11, 7, 12, 10):
        x, y = FAMILIES[name].data(4, seed=length, length=length)
        agree(problem, model, loss, x, y)


@matrix("name,order", ["bert", "gpt2", "llama", "llama lora"], [(True, False, True), (False, True, False)])
def test_padded_after_full_and_full_after_padded(name, order):
    model, loss, problem = fresh(name)
    for full in order:
        x, y = FAMILIES[name].data(4, full=full)
        agree(problem, model, loss, x, y)


def test_padded_at_the_start():
    model, loss, problem = fresh("gpt2")
    for first in (True, False, True):
        ids, mask = words(5, False, generator=draws(), first=first)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        x = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
        agree(problem, model, loss, x, ids.masked_fill(mask == 0, -100))


def test_gradients_are_accumulated_beside_the_users_own():
    model, loss, problem = fresh("bert")
    total = {name: torch.zeros_like(one) for name, one in model.named_parameters()}
    for seed in range(3):
        x, y = text(4, False, draws(seed))
        loss(model(**x), y).backward()
        before = {name: one.grad.clone() for name, one in model.named_parameters()}
        for name, one in agree(problem, model, loss, x, y).items():
            total[name] += one
        for name, one in model.named_parameters():
            assert torch.equal(one.grad, before[name]), name
    want = [clipped(model, loss, *text(4, False, draws(seed)))[0] for seed in range(3)]
    for name, one in total.items():
        assert (one - sum(some[name] for some in want)).abs().max() <= TOLERANCE * LIMIT * 12


@matrix("name,reentrant", ["llama lora", "bert lora", "gpt2 lora", "bert"], [False, True])
def test_adapters_with_checkpointing(name, reentrant):
    model, loss, problem = fresh(name)
    x, y = FAMILIES[name].data(4)
    before = agree(problem, model, loss, x, y)
    plain = copy.deepcopy(model)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_p"):
            module.dropout_p = 0.0
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    if "lora" in name:
        model.enable_input_require_grads()
    got = gk.clipped_sum(problem, None, x, y, max_norm=LIMIT)
    want, norms = clipped(plain, loss, x, y)
    torch.testing.assert_close(gk.norms(problem, None, x, y).double(), norms, rtol=TOLERANCE, atol=0)
    for key, one in want.items():
        assert ((got[key].double() - one).abs() <= TOLERANCE * LIMIT * 4).all(), key
        assert torch.allclose(got[key], before[key], atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "llama lora"])
def test_steps_of_an_optimizer(name):
    model, loss, problem = fresh(name)
    trained = {key: one for key, one in model.named_parameters() if one.requires_grad}
    steps = torch.optim.AdamW(trained.values(), lr=1e-2)
    for seed in range(4):
        x, y = FAMILIES[name].data(4, seed=seed)
        for key, one in agree(problem, model, loss, x, y).items():
            trained[key].grad = one / 4
        steps.step()
        steps.zero_grad()


def test_layers_are_replaced_frozen_and_unfrozen():
    model, loss, problem = fresh("bert")
    x, y = text(4, False, draws())
    agree(problem, model, loss, x, y)
    model.classifier = nn.Linear(32, CLASSES)
    agree(problem, model, loss, x, y)
    for one in model.bert.embeddings.parameters():
        one.requires_grad_(False)
    assert not any("embeddings" in name for name in agree(problem, model, loss, x, y))
    for one in model.bert.parameters():
        one.requires_grad_(False)
    assert set(agree(problem, model, loss, x, y)) == {"classifier.weight", "classifier.bias"}
    for one in model.parameters():
        one.requires_grad_(True)
    agree(problem, model, loss, x, y)
    model.bert.encoder.layer = model.bert.encoder.layer[:1]
    agree(problem, model, loss, x, y)


def test_settings_and_hooks_that_change():
    model, _, _ = fresh("bert")
    temperature = {"value": 1.0}

    def loss(output, y):
        return F.cross_entropy(output.logits / temperature["value"], y)

    problem = gk.ModuleProblem(model, loss)
    x, y = text(4, False, draws())
    for value in (1.0, 0.5):
        temperature["value"] = value
        agree(problem, model, loss, x, y)
    handle = model.bert.encoder.layer[0].register_forward_hook(lambda module, args, output: output * 2)
    agree(problem, model, loss, x, y)
    handle.remove()
    agree(problem, model, loss, x, y)


def test_under_autocast():
    """Against single samples under the same autocast: bfloat16 has three digits, and a batch may round otherwise."""
    model, loss, problem = fresh("bert")
    x, y = text(4, False, draws())
    with torch.autocast("cpu", torch.bfloat16):
        norms = gk.norms(problem, None, x, y)
        looped = gk.norms(problem, None, x, y, kernel="torch.loop")
    exact = clipped(model, loss, x, y)[1]
    assert norms.dtype == torch.float32
    torch.testing.assert_close(norms.double(), exact, rtol=0.05, atol=0)
    torch.testing.assert_close(norms, looped, rtol=0.03, atol=0)


def test_saved_and_loaded(tmp_path):
    model, loss, problem = fresh("gpt2")
    x, y = language(4, False, draws())
    agree(problem, model, loss, x, y)
    with torch.no_grad():
        for one in model.parameters():
            one += 0.01
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = FAMILIES["gpt2"].make()
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    want = agree(problem, model, loss, x, y)
    got = agree(gk.ModuleProblem(other, next_words, mixing="own"), other, loss, x, y)
    for name, one in want.items():
        assert torch.equal(one, got[name]), name
    model.load_state_dict(FAMILIES["gpt2"].make().state_dict())
    agree(problem, model, loss, x, y)
