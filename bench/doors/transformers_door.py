"""Steps of a transformers Trainer with GradientCallback and without, of a small BERT, in one process.

python bench/doors/transformers_door.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from door_rows import compared, write

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from real.families import tr

from gradkernels.adapters.transformers import GradientCallback

LIBRARY = f"transformers {tr.__version__}"
STEPS, BATCH, LENGTH, WORDS = 50, 16, 32, 500


def bert():
    """Make a BERT of two layers, 64 wide."""
    torch.manual_seed(0)
    settings = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    return tr.BertForSequenceClassification(tr.BertConfig(vocab_size=WORDS, num_labels=3, **settings))


def trained(folder, every, looks):
    """Train from the start, logging each `every`-th step and looking at it, or at none; return the parameters."""
    ids = torch.randint(WORDS, (STEPS * BATCH, LENGTH), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": one, "labels": one.sum() % 3} for one in ids]
    arguments = tr.TrainingArguments(
        output_dir=folder, per_device_train_batch_size=BATCH, max_steps=STEPS, logging_steps=every,
        disable_tqdm=True, report_to=[], use_cpu=True, save_strategy="no", optim="sgd", seed=3,
    )  # fmt: skip
    model, callbacks = bert(), [GradientCallback(every=every)] if looks else []
    trainer = tr.Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
    trainer.remove_callback(tr.PrinterCallback)
    trainer.train()
    return torch.cat([one.detach().flatten() for one in model.parameters()])


def rows(folder):
    """Yield a row for each rhythm."""
    for every in (1, 50):
        wanted = trained(folder, every, False)
        off = float((trained(folder, every, True) - wanted).abs().max() / wanted.abs().max())
        what = f"{STEPS} steps of a BERT, norms and noise scale at each step of {every}"
        example = "transformers", LIBRARY, what, BATCH
        ours, own = (lambda every=every, looks=looks: trained(folder, every, looks) for looks in (True, False))
        yield compared(example, ours, own, off)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as place:
        for row in rows(place):
            write([row])
