"""One process of `test_real.py`: a real model, each quantity, every kernel that may be reached by default, and others.

    python bench/real_cells.py time bert
    python bench/real_cells.py memory bert

prints one JSON object a line. Every kernel is proven on the batch before it is timed. `batch` is the forward and
backward pass of the batch's loss, as a training step has it; `default` is the call that a user makes, such as
`gk.clipped_sum(...)`, with all that it decides and audits.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import gradkernels as gk
from gradkernels.bench.isolation.environment import draw_cores, pin_to
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up
from gradkernels.case import Case
from gradkernels.check import prove
from gradkernels.check.reference import Reference

N = 16
WAYS = ("torch.hooks", "torch.reweighted", "torch.jacobian", "torch.vmap", "torch.vmap+", "opacus.hooks",
        "opacus.hooks+", "opacus.ghost", "torch.loop", "torch.loop+")  # fmt: skip
QUANTITIES = ("per_sample", "norms", "clipped_sum")
BATCH, DEFAULT = "batch", "default"
WARM_SECONDS, ROUNDS, SHORTEST, LONGEST = 0.5, 12, 2.0, 20.0
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


def problem(name):
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from real.families import FAMILIES

    family = FAMILIES[name]
    data = family.data(N, length=LENGTHS.get(name, LENGTH))
    return gk.ModuleProblem(family.make(**SIZES[name]), family.loss, mixing="own", example=data)


def plain(real, x, y):
    import torch

    return torch.autograd.grad(real.loss_fn(real.output(x), y), list(real.parameters().values()))


def calls(case, inputs, reference):
    """`(kernel, call, facts)`; the call is None where there is none, and the facts say why."""
    real = case.problem
    _, x, y = gk.kernel("torch.vmap.per_sample").backend.put(inputs)
    yield BATCH, partial(plain, real, x, y), {"status": "ok"}
    yield DEFAULT, partial(getattr(gk, case.quantity.name), real, None, x, y), {"status": "ok"}
    for kernel in gk.kernels(real, case.quantity):
        if kernel.way not in WAYS:
            continue
        if reasons := kernel.unsupported(case):
            yield kernel.key, None, {"status": "unsupported", "reason": "; ".join(reasons)}
            continue
        try:
            compute = kernel.build(real)
            proof = prove(kernel, compute, case, inputs, reference)
        except Exception as fault:
            yield kernel.key, None, {"status": "failed", "reason": f"{type(fault).__name__}: {str(fault)[:200]}"}
            continue
        facts = {"status": "ok", "error": proof.error, "tolerance": proof.tolerance}
        yield kernel.key, partial(compute, real.parameters(), x, y), facts


def timed(found):
    """Facts and times of calls that take turns; what cannot be done first."""
    yield from ((key, facts) for key, call, facts in found if call is None)
    timed = {key: TimedCall(key, call) for key, call, _ in found if call is not None}
    each = [_seconds(one) for one in timed.values()]
    time_interleaved(
        list(timed.values()), min(max(SHORTEST, ROUNDS * sum(each)), LONGEST), lambda: None, np.random.default_rng()
    )
    for key, facts in ((key, facts) for key, call, facts in found if call is not None):
        pairs = zip(timed[key].slices, timed[BATCH].slices, strict=False)
        yield key, {**facts, "seconds": median(timed[key].slices), "of_batch": median(a / b for a, b in pairs)}


def _seconds(one):
    """Of a call once it is warm."""
    warm_up(one, WARM_SECONDS)
    started = perf_counter()
    one.call()
    return perf_counter() - started


def peaks(found):
    """Peak memory of each call."""
    for key, call, _ in found:
        if call is not None:
            call()
            several = [peak for _ in range(3) if (peak := peak_bytes(call)) is not None]
            yield key, {"status": "ok", "peak_bytes": min(several, default=None)}


def main(what, name):
    import torch

    torch.set_num_threads(1)
    pin_to(draw_cores(1, np.random.default_rng()))
    real = problem(name)
    inputs = Case(real, "per_sample", N, "float32", features=real.fixed_features).draw()
    reference = Reference(real, *inputs)
    for quantity in QUANTITIES:
        case = Case(real, quantity, N, "float32", features=real.fixed_features)
        found = list(calls(case, inputs, reference))
        for key, facts in timed(found) if what == "time" else peaks(found):
            named = {"model": name, "parameters": case.parameters, "quantity": quantity, "n": N, "kernel": key}
            print(json.dumps({**named, **facts}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
