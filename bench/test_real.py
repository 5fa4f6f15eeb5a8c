"""Real models (transformers, peft): time and peak memory of every way over a plain backward, beside Opacus and vmap.

    pytest bench/test_real.py -s --real-csv results/real.csv                  # about 15 minutes, gradkernels[real]
    pytest bench/test_real.py -s --real-csv results/real.csv --real-read      # the figures of that file again

All ways of a model and quantity take turns in one process, on a padded batch of 16 (see `real_cells.py`); each is
proven on that batch before it is timed. `batch` is the plain backward: forward and backward pass of the batch's loss.
"""

from __future__ import annotations

import csv
from collections import defaultdict

import pytest
from real_cells import DEFAULT, SIZES
from test_modules import COLUMNS, fastest, is_way, measured, read, short, verdict

COMPARED = ("opacus.hooks", "opacus.ghost", "torch.vmap")
MOST = {"bert": 1.8, "llama": 1.8, "vit": 1.8, "gpt2": 2.0, "llama lora": 1.2}
"""Time of `clipped_sum` over a plain backward."""


@pytest.fixture(scope="module")
def rows(request, tmp_path_factory):
    path = request.config.getoption("real_csv")
    if request.config.getoption("real_read"):
        return list(read(path))
    found, cache = [], tmp_path_factory.mktemp("compiled")
    with open(path or "/dev/null", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for what, model in [(what, model) for model in SIZES for what in ("time", "memory")]:
            print(what, model, flush=True)
            for row in measured(what, model, 1, cache=cache, script="real_cells.py"):
                writer.writerow({name: short(value) for name, value in row.items()})
                file.flush()
                found.append(row)
    return found


def by_cell(rows, figure):
    """`{(model, quantity): {kernel without its quantity: figure}}` of what was measured."""
    found = defaultdict(dict)
    for row in rows:
        if row["status"] == "ok" and row.get(figure):
            found[row["model"], row["quantity"]][row["kernel"].removesuffix(f".{row['quantity']}")] = row
    return found


def test_the_table(rows):
    """Time and peak memory over a plain backward, as Markdown; a dash where a way cannot do the model."""
    times, peaks = by_cell(rows, "of_batch"), by_cell(rows, "peak_bytes")
    print("\n| model | parameters | quantity | batch | default | memory | Opacus hooks | ghost | vmap |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    for (model, quantity), ways in times.items():
        batch, memory = ways["batch"], peaks[model, quantity]
        others = [some(ways, way) or some(ways, f"{way}+") or "-" for way in COMPARED]
        print(
            f"| {model} | {batch['parameters']:,} | `{quantity}` | {batch['seconds'] * 1e3:.3g} ms "
            f"| {ways[DEFAULT]['of_batch']:.2f} | {share(memory, DEFAULT)} | {' | '.join(others)} |"
        )


def some(ways, way):
    return f"{ways[way]['of_batch']:.2f}" if way in ways else ""


def share(peaks, way):
    return f"{peaks[way]['peak_bytes'] / peaks['batch']['peak_bytes']:.2f}" if way in peaks else "-"


def test_clipped_sums_cost_less_than_two_backward_passes(rows):
    ways = {model: found for (model, quantity), found in by_cell(rows, "of_batch").items() if quantity == "clipped_sum"}
    figures = {model: ways[model][DEFAULT]["of_batch"] / most for model, most in MOST.items() if model in ways}
    assert not verdict("clipped_sum over a plain backward, divided by what is allowed", figures, most=1.0)


def test_nobody_is_faster(rows):
    figures = {}
    for cell, ways in by_cell(rows, "of_batch").items():
        peer = fastest(ways, lambda way: way.startswith(("opacus.", "torch.vmap")) and is_way(way))
        if peer:
            figures[cell] = peer["seconds"] / ways[DEFAULT]["seconds"]
    assert not verdict("best of Opacus and vmap over the default", figures, least=1.0)
