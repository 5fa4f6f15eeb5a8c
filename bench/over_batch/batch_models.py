"""The models of `python bench/over_batch`: those of the zoo, a deep MLP, and real ones made from configurations.

Real ones have random weights, nothing is downloaded. Each problem has 64 samples to draw from; more are these again.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import gradkernels as gk
from gradkernels.zoo import CLASSES, EXAMPLE_SAMPLES, ZOO

TESTS = Path(__file__).parents[2] / "tests"
WORDS, WIDTH, LENGTH, SIDE = 500, 64, 32, 32
BLOCK = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 4 * WIDTH}
SETTINGS = {
    "bert": {**BLOCK, "vocab_size": WORDS},
    "gpt2": {"vocab_size": WORDS, "n_embd": WIDTH, "n_layer": 2, "n_head": 4},
    "llama": {**BLOCK, "vocab_size": WORDS, "num_key_value_heads": 2},
    "llama_lora": {**BLOCK, "vocab_size": WORDS, "num_key_value_heads": 2},
    "vit": {**BLOCK, "image_size": SIDE},
}
"""By name of the family in `tests/real/families.py`: the settings that are other ones here."""

PADDED = ("bert", "llama_lora")
"""Texts of different lengths with a mask, as for fine-tuning; others are packed, without one, as for pre-training."""

DEPTH = 7


def deep_mlp():
    """Make seven Linear layers with GELU, 64 wide: mostly the time between operations."""
    torch.manual_seed(45)
    layers = [one for _ in range(DEPTH - 1) for one in (nn.Linear(64, 64), nn.GELU())]
    x, y = torch.randn(EXAMPLE_SAMPLES, 64), torch.randint(CLASSES, (EXAMPLE_SAMPLES,))
    return gk.ModuleProblem(nn.Sequential(*layers, nn.Linear(64, CLASSES)), F.cross_entropy, example=(x, y))


def real(name):
    """Make one of SETTINGS, as transformers and peft make it; a padded batch's loss is not the mean of its samples'."""
    sys.path.append(str(TESTS))
    from real.families import FAMILIES

    family = FAMILIES[name.replace("_", " ")]
    x, y = family.data(EXAMPLE_SAMPLES, full=name not in PADDED, length=SIDE if name == "vit" else LENGTH)
    if name not in PADDED:
        x.pop("attention_mask", None)
    return gk.ModuleProblem(family.make(**SETTINGS[name]), family.loss, mixing="own", example=(x, y))


def noise(output, y):
    """The loss of a denoising model."""
    return F.mse_loss(output.sample, y)


def unet():
    """Make the UNet of diffusers with two levels, the lower one with attention, on 3 x 8 x 8."""
    sys.path.append(str(TESTS))
    import real.families  # noqa: F401  # lets torchvision be imported, as diffusers does too
    from diffusers.models.unets.unet_2d import UNet2DModel

    torch.manual_seed(45)
    model = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=8, attention_head_dim=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    x = {"sample": torch.randn(EXAMPLE_SAMPLES, 3, 8, 8), "timestep": torch.randint(1000, (EXAMPLE_SAMPLES,))}
    return gk.ModuleProblem(model.eval(), noise, example=(x, torch.randn(EXAMPLE_SAMPLES, 3, 8, 8)))


MAKERS = {**ZOO, "deep_mlp": deep_mlp, **{name: partial(real, name) for name in SETTINGS}, "unet": unet}
QUICK_FIRST = ("mlp", "deep_mlp", "embedding_bag", "lstm", "cnn", "bert", "vit", "gpt2", "llama", "llama_lora")
MODELS = {name: MAKERS[name] for name in dict.fromkeys((*QUICK_FIRST, *MAKERS))}
"""What makes each problem, by name; time that the quick ones leave is for those that take longer."""
