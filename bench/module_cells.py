"""One process of `test_modules.py`: a model of the zoo and a number of threads, every way, size after size.

    python bench/module_cells.py time mlp 1 16,64,256,1024
    python bench/module_cells.py memory mlp 1 256

prints one JSON object a line. Every way is proven on 64 of the samples before it is timed, and its mean row must be
the batch's gradient at full size. `batch` (forward and backward pass of the batch's loss, as a training step has it)
and `write` (as many numbers as the rows have, into warm memory) take turns with the ways.
"""

from __future__ import annotations

import json
import os
import sys
from statistics import median
from time import perf_counter

import numpy as np

import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.isolation.environment import draw_cores, pin_to
from gradkernels.bench.timing.outcome import OUT
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.bench.timing.slices import Entrant, race, warm_up
from gradkernels.case import Case
from gradkernels.check import prove
from gradkernels.check.reference import Reference
from gradkernels.memory import empty_torch
from gradkernels.tree import leaves, take

BATCH, WRITE = "batch", "write"
PROOF_SAMPLES = 64
LOOP_SAMPLES = 16
CHUNKS = {"torch.compiled.per_sample": (16,), "torch.compiled_hooks.per_sample": (16, 64)}
WARM_SECONDS = 0.5
ROUNDS = 12
SHORTEST, LONGEST = 2.0, 20.0
SHORT_CUTS = ("mlp", "cnn", "transformer")
"""Models whose norms and clipped sums are timed, on one thread."""


def keys_of(problem, quantity, n):
    """Ways by hand, compiled rows in chunks of several sizes; a Python loop only for few samples."""
    for kernel in gk.kernels(problem, quantity):
        if kernel.composed or (kernel.loops and n > LOOP_SAMPLES):
            continue
        sizes = CHUNKS.get(kernel.key, (None,))
        for size in [size for size in sizes if size is None or size <= n]:
            yield (kernel if size is None else kernel.with_options({"chunk": size})).key


def leave_peers_alone():
    """Have other libraries take what they would by themselves, without our look at where their samples are."""
    from gradkernels.engines.peers.model_copy import Twins

    Twins.look = lambda *_: None


def main(what, model, threads, sizes):
    import torch

    leave_peers_alone()
    torch.set_num_threads(int(threads))
    pin_to(draw_cores(int(threads), np.random.default_rng()))
    problem = zoo.ZOO[model]()
    builds = {}
    for n in map(int, sizes.split(",")):
        short = ("norms", "clipped_sum") if model in SHORT_CUTS and threads == "1" else ()
        for quantity in ("per_sample", *short) if what == "time" else short:
            case = Case(problem, quantity, n, "float32", threads=int(threads), features=problem.own_features)
            cell = Cell(case, model, builds)
            for row in cell.timed() if what == "time" else cell.peaks():
                print(json.dumps(row), flush=True)


class Cell:
    """One model, quantity and size.

    Args:
        case: What is computed.
        model: Its name in the zoo.
        builds: What was built and proven for smaller sizes, by key; more is added.
    """

    def __init__(self, case, model, builds):
        self.case, self.model, self.builds = case, model, builds
        self.inputs = case.draw()
        self.theta, self.x, self.y = gk.kernel("torch.vmap.per_sample").backend.put(self.inputs)
        self.own = case.problem.own()  # what a training step has: the values in the model itself
        self.out = {name: empty_torch((case.n, *one.shape), one) for name, one in self.theta.items()}

    def batch(self):
        import torch

        problem = self.case.problem
        return torch.autograd.grad(problem.loss_fn(problem.output(self.x), self.y), list(self.own.values()))

    def write(self):
        for one in self.out.values():
            one.fill_(1.0)

    def keys(self):
        """Keys of the ways that are tried."""
        return keys_of(self.case.problem, self.case.quantity, self.case.n)

    def calls(self):
        """A call for each way that is proven, and a row for each that is not."""
        for key in self.keys():
            kernel = gk.kernel(key)
            if reasons := kernel.unsupported(self.case):
                yield key, None, {"status": "unsupported", "reason": "; ".join(reasons)}
                continue
            try:
                compute, facts = self.proven(kernel)
            except Exception as fault:
                yield key, None, {"status": "failed", "reason": f"{type(fault).__name__}: {str(fault)[:200]}"}
                continue
            yield key, lambda compute=compute: compute(self.own, self.x, self.y), facts
            if kernel.out and self.case.quantity.name == "per_sample":
                yield key + OUT, lambda compute=compute: compute(self.own, self.x, self.y, out=self.out), facts

    def proven(self, kernel):
        """What is timed, and the facts of its proof; chunks are compiled for this size's shapes here."""
        if kernel.key not in self.builds:
            small = Case(self.case.problem, self.case.quantity, min(self.case.n, PROOF_SAMPLES), "float32",
                         threads=self.case.threads, features=self.case.features)  # fmt: skip
            inputs = (self.inputs[0], *take(self.inputs[1:], slice(0, small.n)))
            started = perf_counter()
            compute = kernel.build(small.problem)
            compute(self.theta, *take((self.x, self.y), slice(0, small.n)))
            first = perf_counter() - started
            proof = prove(kernel, compute, small, inputs, self.reference(small, inputs))
            self.builds[kernel.key] = compute, {
                "status": "ok", "seconds_first": first, "error": proof.error, "tolerance": proof.tolerance
            }  # fmt: skip
        return self.builds[kernel.key]

    def reference(self, small, inputs):
        if ("reference", small.n) not in self.builds:
            self.builds["reference", small.n] = Reference(small.problem, *inputs)
        return self.builds["reference", small.n]

    def row(self, key, **facts):
        case = self.case
        named = {"model": self.model, "parameters": case.parameters, "quantity": case.quantity.name, "n": case.n}
        return {**named, "threads": case.threads, "kernel": key, **facts}

    def timed(self):
        """Rows with times; what cannot be done first."""
        ready = {BATCH: (self.batch, {"status": "ok"}), WRITE: (self.write, {"status": "ok"})}
        for key, call, facts in self.calls():
            if call is None:
                yield self.row(key, **facts)
            else:
                ready[key] = call, facts
        for key in [key for key, (call, _) in ready.items() if not self.right(key, call)]:
            del ready[key]
            yield self.row(key, status="wrong", reason="its mean row is not the gradient of the batch")
        entrants = [Entrant(key, call) for key, (call, _) in ready.items()]
        for entrant in entrants:
            warm_up(entrant, WARM_SECONDS)
        each = [min(entrant.slices) if entrant.slices else _seconds(entrant.call) for entrant in entrants]
        race(entrants, min(max(SHORTEST, ROUNDS * sum(each)), LONGEST), lambda: None, np.random.default_rng())
        slices = {entrant.name: entrant.slices for entrant in entrants}
        for key, (_, facts) in ready.items():
            yield self.row(key, seconds=median(slices[key]), **facts, **self.ratios(slices, key))

    def right(self, key, call):
        """Whether the mean row at full size is the batch's gradient; rounding grows with the number of samples."""
        if key in (BATCH, WRITE) or self.case.quantity.name != "per_sample":
            return True
        rows, gradient = leaves(call()), self.batch()
        norm = sum(float(one.double().square().sum()) for one in gradient) ** 0.5
        off = [
            float((row.double().mean(0) - one.double()).abs().max()) for row, one in zip(rows, gradient, strict=True)
        ]
        return max(off) < 1e-3 * norm

    def ratios(self, slices, key):
        blocks = list(zip(slices[key], slices[BATCH], slices[WRITE], strict=False))
        limit = [own / (batch + write) for own, batch, write in blocks]
        return {"of_batch": median(own / batch for own, batch, _ in blocks), "of_limit": median(limit)}

    def peaks(self):
        """Rows with the peak memory of a call."""
        for key, call, _ in [(BATCH, self.batch, {}), *self.calls()]:
            if call is not None and not key.endswith(OUT):
                call()
                found = [peak for _ in range(3) if (peak := peak_bytes(call)) is not None]
                yield self.row(key, status="ok", peak_bytes=min(found, default=None))


def _seconds(call):
    started = perf_counter()
    call()
    return perf_counter() - started


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", sys.argv[3])
    main(*sys.argv[1:])
