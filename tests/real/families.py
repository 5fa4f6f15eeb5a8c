"""Families of real models, small: how each is made, what a batch of it looks like, and its loss.

A batch is padded at the end, to lengths that differ from sample to sample, unless `full` is asked for.
"""

import copy
import os
from dataclasses import dataclass
from typing import Any

import torch
from real.stand_in import with_torchvision
from torch.nn import functional as F

TORCHVISION = with_torchvision()
os.environ["HF_HUB_OFFLINE"] = "1"

import transformers as tr  # noqa: E402

WORDS, LENGTH, CLASSES = 97, 10, 3


def classified(output, y):
    return F.cross_entropy(output.logits, y)


def next_words(output, y):
    """Mean over the words that are there: of a padded batch another weighting than that of its samples."""
    logits = output.logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y[:, 1:].reshape(-1))


def words(n, full, length=LENGTH, generator=None, first=False):
    """Word numbers and mask `(n, length)`, padded at the end or the start."""
    ids = torch.randint(5, WORDS, (n, length), generator=generator)
    short = torch.zeros(n, dtype=torch.int64) if full else torch.arange(n) % 4
    at = torch.arange(length)
    mask = (at >= short[:, None]) if first else (at < length - short[:, None])
    return ids * mask, mask.long()


def text(n, full, generator, length=LENGTH):
    ids, mask = words(n, full, length, generator)
    return {"input_ids": ids, "attention_mask": mask}, torch.randint(CLASSES, (n,), generator=generator)


def language(n, full, generator, length=LENGTH):
    ids, mask = words(n, full, length, generator)
    return {"input_ids": ids, "attention_mask": mask}, ids.masked_fill(mask == 0, -100)


def translated(n, full, generator, length=LENGTH):
    x, y = language(n, full, generator, length)
    return {**x, "decoder_input_ids": x["input_ids"].roll(1, 1)}, y


def images(n, full, generator, length=32):
    return {"pixel_values": torch.randn(n, 3, length, length, generator=generator)}, torch.randint(
        CLASSES, (n,), generator=generator
    )


def sounds(n, full, generator, length=400):
    return {"input_values": torch.randn(n, length, generator=generator)}, torch.randint(
        CLASSES, (n,), generator=generator
    )


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        model: Name of the class in transformers.
        config: Name of its configuration's class.
        settings: Of the configuration.
        batch: `batch(n, full, generator, length)`: x and y.
        loss: `loss(output, y)`.
        lora: Names of the linear maps that get adapters; the rest is then frozen.
        core: Whether it is tested every time.
        followed: Whether hooks can follow it; if not, another way computes it.
    """

    model: str
    config: str
    settings: dict[str, Any]
    batch: Any = text
    loss: Any = classified
    lora: tuple[str, ...] = ()
    core: bool = False
    followed: bool = True

    def make(self, **settings):
        """The model, with the same weights at every call, and no dropout; some settings may be others."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = getattr(tr, self.config)(**{**self.settings, **settings})
            config.use_cache = False
            model = getattr(tr, self.model)(config)
            if self.lora:
                import peft  # seconds, which processes that run other tests need not wait for

                model = peft.get_peft_model(
                    model,
                    peft.LoraConfig(
                        r=4, lora_alpha=8, target_modules=[*self.lora], fan_in_fan_out="c_attn" in self.lora
                    ),
                )
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:  # which starts at zero, and its fellow's gradient with it
                        torch.nn.init.normal_(parameter, std=0.1)
        return model.eval()

    def data(self, n=6, full=False, seed=1, **more):
        return self.batch(n, full, torch.Generator().manual_seed(seed), **more)


SMALL = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": 64, "num_labels": CLASSES, "pad_token_id": 0}  # fmt: skip
LLAMA = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
GPT = {"vocab_size": WORDS, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1,
       "eos_token_id": 2, "pad_token_id": 0, "num_labels": CLASSES}  # fmt: skip
PATCHES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
           "image_size": 32, "patch_size": 8, "num_labels": CLASSES}  # fmt: skip

FAMILIES = {
    "bert": Family("BertForSequenceClassification", "BertConfig", SMALL, core=True),
    "gpt2": Family("GPT2LMHeadModel", "GPT2Config", GPT, language, next_words, core=True),
    "gpt2 classifier": Family("GPT2ForSequenceClassification", "GPT2Config", GPT),
    "llama": Family("LlamaForCausalLM", "LlamaConfig", LLAMA, language, next_words, core=True),
    "llama lora": Family(
        "LlamaForCausalLM", "LlamaConfig", LLAMA, language, next_words, lora=("q_proj", "v_proj"), core=True
    ),
    "bert lora": Family("BertForSequenceClassification", "BertConfig", SMALL, lora=("query", "value")),
    "gpt2 lora": Family("GPT2LMHeadModel", "GPT2Config", GPT, language, next_words, lora=("c_attn",)),
    "distilbert": Family(
        "DistilBertForSequenceClassification", "DistilBertConfig",
        {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "num_labels": CLASSES,
         "max_position_embeddings": 64}, core=True,
    ),
    "roberta": Family("RobertaForSequenceClassification", "RobertaConfig", SMALL, core=True),
    "electra": Family(
        "ElectraForSequenceClassification", "ElectraConfig", {**SMALL, "embedding_size": 32}, core=True
    ),
    "albert": Family("AlbertForSequenceClassification", "AlbertConfig", {**SMALL, "embedding_size": 16}, core=True),
    "deberta": Family(
        "DebertaV2ForSequenceClassification", "DebertaV2Config",
        {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    ),
    "mistral": Family("MistralForCausalLM", "MistralConfig", LLAMA, language, next_words),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", LLAMA, language, next_words, core=True),
    "gemma": Family("GemmaForCausalLM", "GemmaConfig", {**LLAMA, "head_dim": 8}, language, next_words),
    "phi": Family("PhiForCausalLM", "PhiConfig", SMALL, language, next_words),
    "opt": Family(
        "OPTForCausalLM", "OPTConfig",
        {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}, language, next_words, core=True,
    ),
    "neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL, language, next_words),
    "t5": Family(
        "T5ForConditionalGeneration", "T5Config",
        {"vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
         "pad_token_id": 0, "decoder_start_token_id": 0}, translated,
        lambda output, y: F.cross_entropy(output.logits.reshape(-1, WORDS), y.reshape(-1)), core=True,
    ),
    "mamba": Family(
        "MambaForCausalLM", "MambaConfig",
        {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "pad_token_id": 0},
        language, next_words,
    ),
    "bloom": Family(
        "BloomForCausalLM", "BloomConfig",
        {"vocab_size": WORDS, "hidden_size": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0},
        language, next_words, followed=False,
    ),
    "mixtral": Family(
        "MixtralForCausalLM", "MixtralConfig",
        {**LLAMA, "num_local_experts": 4, "experts_implementation": "eager"}, language, next_words, followed=False,
    ),
    "vit": Family("ViTForImageClassification", "ViTConfig", PATCHES, images, core=True),
    "convnext": Family(
        "ConvNextForImageClassification", "ConvNextConfig",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "num_labels": CLASSES, "patch_size": 4}, images,
        core=True,
    ),
    "resnet": Family(
        "ResNetForImageClassification", "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
         "num_labels": CLASSES}, images,
    ),
    "swin": Family(
        "SwinForImageClassification", "SwinConfig",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
         "num_labels": CLASSES}, images,
    ),
    "wav2vec2": Family(
        "Wav2Vec2ForSequenceClassification", "Wav2Vec2Config",
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
         "conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3], "num_conv_pos_embeddings": 16,
         "num_conv_pos_embedding_groups": 2, "num_labels": CLASSES, "vocab_size": 32, "classifier_proj_size": 16},
        sounds,
    ),
}  # fmt: skip


def rows(model, loss, x, y):
    """Per-sample gradients by name: one backward pass for each sample alone, in double precision; no code of ours."""
    model = copy.deepcopy(model).double()
    found = []
    for at in range(len(y)):
        model.zero_grad()
        one = {name: value[at : at + 1] for name, value in x.items()}
        one = {name: value.double() if value.is_floating_point() else value for name, value in one.items()}
        loss(model(**one), y[at : at + 1]).backward()
        found.append(
            {name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
             for name, p in model.named_parameters() if p.requires_grad}
        )  # fmt: skip
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}
