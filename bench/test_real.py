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
from processes import rows as rows_of
from processes import short
from readings import judge
from real_cells import BATCH, DEFAULT, SIZES

COLUMNS = (
    *("model", "parameters", "quantity", "n", "kernel", "status", "reason", "seconds"),
    *("of_batch", "error", "tolerance", "peak_bytes"),
)
NUMBERS = ("seconds", "of_batch", "error", "tolerance", "peak_bytes")
COMPARED = ("opacus.hooks", "opacus.ghost", "torch.vmap")
MOST = {"bert": 1.8, "llama": 1.8, "vit": 1.8, "gpt2": 2.0, "llama lora": 1.2}
"""Time of `clipped_sum` over a plain backward."""


@pytest.fixture(scope="module")
def rows(request):
    path = request.config.getoption("real_csv")
    if request.config.getoption("real_read"):
        return list(read(path))
    found = []
    with open(path or "/dev/null", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for what, model in [(what, model) for model in SIZES for what in ("time", "memory")]:
            print(what, model, flush=True)
            for row in rows_of("real_cells.py", what, model, memory=what == "memory"):
                writer.writerow({name: short(value) for name, value in row.items()})
                file.flush()
                found.append(row)
    return found


def read(path):
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            yield row | {name: float(row[name]) if row[name] else None for name in NUMBERS}


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
        batch, memory = ways[BATCH], peaks[model, quantity]
        others = [some(ways, way) or some(ways, f"{way}+") or "-" for way in COMPARED]
        print(
            f"| {model} | {int(batch['parameters']):,} | `{quantity}` | {batch['seconds'] * 1e3:.3g} ms "
            f"| {ways[DEFAULT]['of_batch']:.2f} | {share(memory, DEFAULT)} | {' | '.join(others)} |"
        )


def some(ways, way):
    return f"{ways[way]['of_batch']:.2f}" if way in ways else ""


def share(peaks, way):
    return f"{peaks[way]['peak_bytes'] / peaks[BATCH]['peak_bytes']:.2f}" if way in peaks else "-"


def test_clipped_sums_cost_less_than_two_backward_passes(rows):
    ways = {model: found for (model, quantity), found in by_cell(rows, "of_batch").items() if quantity == "clipped_sum"}
    figures = {model: ways[model][DEFAULT]["of_batch"] / most for model, most in MOST.items() if model in ways}
    assert not judge("clipped_sum over a plain backward, divided by what is allowed", figures, most=1.0)


def test_nobody_is_faster(rows):
    figures = {}
    for cell, ways in by_cell(rows, "of_batch").items():
        others = [row["seconds"] for way, row in ways.items() if way.startswith(("opacus.", "torch.vmap"))]
        if others:
            figures[cell] = min(others) / ways[DEFAULT]["seconds"]
    assert not judge("best of Opacus and vmap over the default", figures, least=1.0)
