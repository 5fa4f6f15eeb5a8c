"""One process of `test_real.py`: a real model, each quantity, every way that may be reached by default, and the peers.

    python bench/real_cells.py time bert 1
    python bench/real_cells.py memory bert 1

prints one JSON object a line, as `module_cells.py` does. `default` is the call that a user makes, such as
`gk.clipped_sum(...)`, with all that it decides and audits.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from module_cells import Cell, leave_peers_alone

import gradkernels as gk
from gradkernels.bench.isolation.environment import draw_cores, pin_to
from gradkernels.case import Case

N = 16
WAYS = ("torch.hooks", "torch.reweighted", "torch.jacobian", "torch.vmap", "torch.vmap+", "opacus.hooks",
        "opacus.hooks+", "opacus.ghost", "torch.loop", "torch.loop+")  # fmt: skip
QUANTITIES = ("per_sample", "norms", "clipped_sum")
DEFAULT = "default"
WIDE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
WORDY = {**WIDE, "vocab_size": 2000}
SIZES = {
    "bert": WORDY,
    "gpt2": {"vocab_size": 2000, "n_embd": 128, "n_layer": 4, "n_head": 4},
    "llama": {**WORDY, "num_key_value_heads": 2},
    "llama lora": {**WORDY, "num_key_value_heads": 2},
    "vit": {**WIDE, "image_size": 64},
    "distilbert": {"vocab_size": 2000, "dim": 128, "n_layers": 4, "n_heads": 4, "hidden_dim": 512},
    "convnext": {"hidden_sizes": [32, 64], "depths": [2, 2]},
}
"""By family (see `tests/real/families.py`): the settings that are larger than there."""

LENGTHS = {"vit": 64, "convnext": 64}
LENGTH = 32


class RealCell(Cell):
    """A real model in a padded batch."""

    def keys(self):
        """Ways that are listed; none that compiles."""
        for kernel in gk.kernels(self.case.problem, self.case.quantity):
            if kernel.way in WAYS:
                yield kernel.key

    def right(self, key, call):
        """Every way is proven on the whole batch, whose own gradient may weigh the samples otherwise."""
        return True

    def calls(self):
        yield from super().calls()
        ask = getattr(gk, self.case.quantity.name)
        yield DEFAULT, lambda: ask(self.case.problem, None, self.x, self.y), {"status": "ok"}


def problem(name):
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "real"))
    from families import FAMILIES

    family = FAMILIES[name]
    data = family.data(N, length=LENGTHS.get(name, LENGTH))
    return gk.ModuleProblem(family.make(**SIZES[name]), family.loss, mixing="own", example=data)


def main(what, name, threads):
    import torch

    leave_peers_alone()
    torch.set_num_threads(int(threads))
    pin_to(draw_cores(int(threads), np.random.default_rng()))
    real, builds = problem(name), {}
    for quantity in QUANTITIES:
        case = Case(real, quantity, N, "float32", threads=int(threads), features=real.own_features)
        cell = RealCell(case, name, builds)
        for row in cell.timed() if what == "time" else cell.peaks():
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", sys.argv[3])
    main(*sys.argv[1:])
