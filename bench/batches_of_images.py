"""A data set of images batch by batch: `python bench/batches_of_images.py --samples 1000000`, figures of `gk.over`.

Gradients of a small CNN are projected to 512 dimensions into a file, by `gk.over`, by a loop by hand with torch.func,
and by trak. The images are made when they are needed, alike for all. One pass of ours goes over all samples; others
take turns with it in one process on the first 20,000 of them.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import tempfile
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scale_rows import OUT, Figure
from torch import nn
from torch.func import functional_call, grad, vmap

import gradkernels as gk
from gradkernels.dispatch.machine import machine

BATCH, SIZE = 250, 512
FEW = 80
"""Batches of a pass of which others take turns with ours: 20,000 samples."""

SLOW_BATCHES = 20


class Images:
    """Batches of random images and classes, the same each time; a loader that may wait for each."""

    def __init__(self, batches, wait=0.0):
        self.batches, self.wait = batches, wait

    def __len__(self):
        return self.batches

    def __iter__(self):
        for number in range(self.batches):
            generator = torch.Generator().manual_seed(number)
            time.sleep(self.wait)
            images = torch.randn(BATCH, 1, 16, 16, generator=generator)
            yield images, torch.randint(10, (BATCH,), generator=generator)


def small_cnn():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)
    return nn.Sequential(*layers)


MODEL, LOSS = small_cnn(), nn.CrossEntropyLoss()
PROBLEM = gk.ModuleProblem(MODEL, LOSS)
ENTRIES = sum(one.numel() for one in MODEL.parameters())


def ours(images, folder):
    gk.over(images, progress=False).project(PROBLEM, size=SIZE, out=folder / "ours.npy")
    for one in folder.glob("ours.npy*"):  # which a second call would read
        one.unlink()


def by_hand(images, folder):
    """Write what people write: vmap of grad, a matrix held whole, a memory map."""
    theta = {name: one.detach() for name, one in MODEL.named_parameters()}
    rows = vmap(grad(lambda t, x, y: LOSS(functional_call(MODEL, t, x[None]), y[None])), (None, 0, 0))
    matrix = torch.randn(ENTRIES, SIZE, generator=torch.Generator().manual_seed(0)) / SIZE**0.5
    shape = len(images) * BATCH, SIZE
    out = np.lib.format.open_memmap(folder / "hand.npy", "w+", np.float32, shape)
    for number, (x, y) in enumerate(images):
        flat = torch.cat([one.flatten(1) for one in rows(theta, x, y).values()], 1)
        out[number * BATCH : (number + 1) * BATCH] = (flat @ matrix).numpy()
    out.flush()


def by_trak(images, folder):
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    projector = BasicProjector(ENTRIES, SIZE, 0, ProjectionType.normal, "cpu", SIZE)
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        given = {"save_dir": saved, "device": "cpu", "proj_dim": SIZE, "use_half_precision": False, "logging_level": 40}
        traker = TRAKer(MODEL, "image_classification", len(images) * BATCH, projector=projector, **given)
        traker.load_checkpoint(MODEL.state_dict(), model_id=0)
        for x, y in images:
            traker.featurize([x, y], num_samples=len(x))


def seconds(function, *given):
    start = time.perf_counter()
    function(*given)
    return time.perf_counter() - start


def in_turns(passes, **functions):
    """Return seconds by name, each so often, in turns, after one that does not count."""
    found = {name: [] for name in functions}
    for number in range(passes + 1):
        for name, function in functions.items():
            taken = seconds(function)
            found[name] += [taken] if number else []
    return found


def ratio(one, other):
    return median(a / b for a, b in zip(one, other, strict=True))


def peers(images, folder, passes):
    """Yield the time of others over a pass of ours, and what reading takes of it."""
    functions = {"a loop by hand": by_hand, "trak": by_trak}
    found = in_turns(passes, ours=lambda: ours(images, folder), reading=lambda: list(map(len, images)))
    yield "images: reading alone over a pass", ratio(found["reading"], found["ours"]), "ratio", ""
    for name, function in functions.items():
        try:
            found = in_turns(passes, ours=lambda: ours(images, folder), other=lambda f=function: f(images, folder))
        except Exception as error:  # not installed, or not for this version of torch
            yield f"images: {name} over ours", f"{type(error).__name__}: {error}"[:120], "", ""
            continue
        yield f"images: {name} over ours", ratio(found["other"], found["ours"]), "ratio", ""


def overlap(passes):
    """Yield what loading ahead saves where loading a batch waits as long as computing it takes."""
    quiet = {"progress": False}
    wait = (
        min(in_turns(passes, one=lambda: gk.over(Images(SLOW_BATCHES), **quiet).norms(PROBLEM))["one"]) / SLOW_BATCHES
    )
    slow = Images(SLOW_BATCHES, wait)
    found = in_turns(
        passes,
        ahead=lambda: gk.over(slow, **quiet).norms(PROBLEM),
        waiting=lambda: gk.over(slow, prefetch=0, **quiet).norms(PROBLEM),
    )
    yield "images: loading ahead over waiting", ratio(found["ahead"], found["waiting"]), "ratio", "<= 0.65"


def whole_pass(images, folder):
    """Yield what one pass of ours over all samples takes, and adds to the peak memory of this process."""
    ours(Images(2), folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = seconds(ours, images, folder)
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    yield "images: memory that a pass adds", added / 2**20, "GiB", ""
    yield "images: seconds of a pass", taken, "s", ""
    yield "images: microseconds of a sample", 1e6 * taken / len(images) / BATCH, "us", ""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20_000, help="of the pass of ours")
    parser.add_argument("--passes", type=int, default=3, help="of which a figure is the median")
    parser.add_argument("--out", type=Path, default=OUT, help="the file; it is added to")
    given = parser.parse_args(arguments)
    images = Images(max(1, given.samples // BATCH))
    few = Images(min(FEW, len(images)))
    command = f"python bench/batches_of_images.py --samples {given.samples} --passes {given.passes}"
    told = {"workers": 1, "machine": machine(), "command": command}
    told["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    with given.out.open("a", newline="") as file, tempfile.TemporaryDirectory() as folder:
        writer = csv.DictWriter(file, [one.name for one in fields(Figure)], lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        path, passes = Path(folder), given.passes
        slow = Images(SLOW_BATCHES)
        groups = (
            (images, 1, whole_pass(images, path)),
            (slow, passes, overlap(passes)),
            (few, passes, peers(few, path, passes)),
        )
        for of, count, group in groups:
            told |= {"gigabytes": round(len(of) * BATCH * ENTRIES * 4 / 1e9, 3), "blocks": len(of), "passes": count}
            for measure, value, unit, aim in group:
                value = f"{value:.4g}" if isinstance(value, float) else value
                writer.writerow(asdict(Figure(measure, value, unit, aim, **told)))
                file.flush()
                print(f"{measure:40} {value:>8} {unit:6} {aim}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
