"""One of two processes that train together: `python -m torch.distributed.run --nproc-per-node 2 THIS FOLDER`."""

import os
import sys

import torch
from test_lightning_callback import Classifier, LightningGradientCallback, loader
from test_lightning_callback import own_gradients as of_lightning
from test_lightning_callback import train as train_lightning
from test_trainer_callback import KINDS, own_gradients, samples, small, train

from gradkernels.adapters.transformers import GradientCallback

QUANTITIES, SIZE, BATCH = ("norms", "noise_scale"), 2, 4


def of_trainer(kind, folder, parts, averaged):
    """Train for a step that changes nothing; return what is logged of it, and the gradients of its samples."""
    made, config, words = KINDS[kind]
    model, data = small(made, config), samples(BATCH * SIZE * parts, words)
    for one in data[BATCH : 2 * BATCH] if words else []:
        one["labels"][:3] = -100  # so that batches have different numbers of targets
    own = own_gradients(model, data)
    trainer = train(
        model, data, folder, GradientCallback(QUANTITIES), gradient_accumulation_steps=parts, learning_rate=0.0,
        max_grad_norm=0, average_tokens_across_devices=averaged,
    )  # fmt: skip
    return trainer.state.log_history[0], own


def of_lightning_trainer():
    """Do the same with Lightning."""
    module, batches = Classifier(), loader(n=2 * BATCH * SIZE, size=BATCH)
    own, callback = of_lightning(module, batches), LightningGradientCallback(QUANTITIES, module="model")
    trainer = train_lightning(module, batches, callback, accumulate_grad_batches=2, devices=SIZE, strategy="ddp")
    return {name: float(one) for name, one in trainer.logged_metrics.items()}, own


if __name__ == "__main__":
    found = {
        f"{kind}, {parts} batches, averaged {averaged}": of_trainer(kind, sys.argv[1], parts, averaged)
        for kind in KINDS
        for parts in (1, 2)
        for averaged in (True, False)
    }
    found["lightning"] = of_lightning_trainer()
    torch.save(found, f"{sys.argv[1]}/{os.environ['RANK']}.pt")
