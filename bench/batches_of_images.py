"""A data set of images batch by batch: `python bench/batches_of_images.py --samples 1000000`, figures of `gk.over`.

Gradients of a small CNN are projected to 512 dimensions into a file, by `gk.over`, by a loop by hand with torch.func,
and by trak. The images are made when they are needed, alike for all. One pass of ours goes over all samples; others
take turns with it in one process on the first 20,000 of them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from image_ways import BATCH, ENTRIES, PROBLEM, Images, by_hand, by_trak, ours
from scale_rows import OUT, Figure, write_figures
from scale_turns import in_turns, ratio, seconds

import gradkernels as gk

FEW = 80
"""Batches of a pass of which others take turns with ours: 20,000 samples."""

SLOW_BATCHES = 20


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
    taken = seconds(lambda: ours(images, folder))
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    yield "images: memory that a pass adds", added / 2**20, "GiB", ""
    yield "images: seconds of a pass", taken, "s", ""
    yield "images: microseconds of a sample", 1e6 * taken / len(images) / BATCH, "us", ""


def measured(images, passes, folder):
    """Yield all figures.

    Args:
        images: Of the pass of ours.
        passes: Of which the other figures are medians.
        folder: For what is written.
    """
    slow, few = Images(SLOW_BATCHES), Images(min(FEW, len(images)))
    groups = (
        (images, 1, whole_pass(images, folder)),
        (slow, passes, overlap(passes)),
        (few, passes, peers(few, folder, passes)),
    )
    for of, count, group in groups:
        gigabytes = round(len(of) * BATCH * ENTRIES * 4 / 1e9, 3)
        for figure in group:
            yield Figure(*figure, gigabytes=gigabytes, blocks=len(of), workers=1, passes=count)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20_000, help="of the pass of ours")
    parser.add_argument("--passes", type=int, default=3, help="of which a figure is the median")
    parser.add_argument("--out", type=Path, default=OUT, help="the file; it is added to")
    given = parser.parse_args(arguments)
    command = f"python bench/batches_of_images.py --samples {given.samples} --passes {given.passes}"
    images = Images(max(1, given.samples // BATCH))
    with tempfile.TemporaryDirectory() as folder:
        write_figures(given.out, measured(images, given.passes, Path(folder)), command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
