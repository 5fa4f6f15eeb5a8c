"""What models of transformers take and give: labels among the inputs, losses of their own, caches, encodings."""

import pytest
import torch
from families import tr
from torch.nn import functional as F

import gradkernels as gk

IDS = torch.randint(5, 97, (4, 8), generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(8) < torch.tensor([8, 8, 5, 3])[:, None]).long()
CLASSES = torch.tensor([0, 2, 1, 1])
SMALL = {"vocab_size": 97, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def bert():
    torch.manual_seed(0)
    return tr.BertForSequenceClassification(tr.BertConfig(**SMALL, num_labels=3)).eval()


def llama():
    torch.manual_seed(0)
    return tr.LlamaForCausalLM(tr.LlamaConfig(**SMALL, num_key_value_heads=2, use_cache=True)).eval()


def singles(model, loss, x, y):
    """Rows by name from a backward pass of each sample alone."""
    parameters = dict(model.named_parameters())
    rows = []
    for i in range(len(IDS)):
        one = {name: part[i : i + 1] if isinstance(part, torch.Tensor) else part for name, part in x.items()}
        value = loss(model(**one), None if y is None else y[i : i + 1])
        rows.append(torch.autograd.grad(value, [*parameters.values()], allow_unused=True, materialize_grads=True))
    return {name: torch.stack(some) for name, some in zip(parameters, zip(*rows, strict=True), strict=True)}


def close(rows, expected):
    for name, found in rows.items():
        torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=1e-5)


def test_labels_inside_x_and_the_models_own_loss():
    model, x = bert(), {"input_ids": IDS, "attention_mask": MASK, "labels": CLASSES}
    rows = gk.per_sample(gk.ModuleProblem(model, None), None, x, None)
    close(rows, singles(model, lambda output, y: output.loss, x, None))


def test_an_encoding_with_flags_and_None_is_a_batch():
    model = bert()
    x = tr.BatchEncoding({"input_ids": IDS, "attention_mask": MASK, "output_attentions": True, "inputs_embeds": None})
    rows = gk.per_sample(gk.ModuleProblem(model, lambda output, y: F.cross_entropy(output.logits, y)), None, x, CLASSES)
    close(rows, singles(model, lambda output, y: F.cross_entropy(output.logits, y), dict(x), CLASSES))


def test_an_output_with_a_cache_and_a_loss_beside_its_logits():
    model = llama()
    x = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS}

    def loss(output, y):
        return F.cross_entropy(output.logits[:, :-1].transpose(1, 2), y[:, 1:])

    rows = gk.per_sample(gk.ModuleProblem(model, loss), None, x, IDS)
    close(rows, singles(model, loss, x, IDS))


@pytest.mark.parametrize("mixing", ["error", "own"])
def test_the_mean_over_words_of_a_padded_batch(mixing):
    model = llama()
    labels = IDS.masked_fill(MASK == 0, -100)
    x = {"input_ids": IDS, "attention_mask": MASK, "labels": labels}
    problem = gk.ModuleProblem(model, None, mixing=mixing)
    if mixing == "own":
        norms = gk.norms(problem, None, x, None)
    else:
        with pytest.warns(gk.MixingWarning, match="the model weighs its samples"):
            norms = gk.norms(problem, None, x, None)
    rows = singles(model, lambda output, y: output.loss, x, None)
    expected = torch.stack([one.flatten(1).norm(dim=1) for one in rows.values()]).norm(dim=0)
    torch.testing.assert_close(norms, expected, rtol=1e-3, atol=1e-5)


def test_a_loss_object_is_told_to_take_the_logits():
    with pytest.raises(ValueError, match=r"gives a SequenceClassifierOutput; .*loss\(output.logits, y\)"):
        gk.norms(gk.ModuleProblem(bert(), torch.nn.CrossEntropyLoss()), None, {"input_ids": IDS}, CLASSES)
