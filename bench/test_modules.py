"""Per-sample gradients of modules: every way there is, on six small models, and what the best of them owes to none.

    pytest bench/test_modules.py -s --modules-csv results/modules.csv          # about 40 minutes, 4 GB
    pytest bench/test_modules.py -s --modules-csv results/modules.csv --modules-read   # the figures of that file again
    pytest bench/test_modules.py -s --modules-quick                            # one model, two sizes, nothing asserted

A cell is a model, a number of samples and of threads; all ways of a cell take turns in one process (see
`module_cells.py`). The limit is a plain batch backward plus writing the n p numbers of the rows, timed in the same
blocks. Peers are Opacus in its three modes, BackPACK and vmap of `torch.func`, which is torch's own recipe.
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from module_cells import SHORT_CUTS

from gradkernels import zoo
from gradkernels.bench.isolation.environment import child_environment, memory_environment

COLUMNS = (
    *("model", "parameters", "quantity", "n", "threads", "kernel", "status", "reason", "seconds", "seconds_first"),
    *("of_batch", "of_limit", "error", "tolerance", "peak_bytes"),
)
NUMBERS = ("seconds", "seconds_first", "of_batch", "of_limit", "error", "tolerance", "peak_bytes")
SIZES, MEMORY_SIZE = "16,64,256,1024", "256"
PEERS = ("opacus.", "backpack.", "torch.vmap.")
HOOKS, OUT = "torch.hooks.per_sample", "@out"
WITHIN = {"mlp": 1.3, "cnn": 1.3, "resnet": 1.3, "embedding_bag": 1.3, "transformer": 1.6, "lstm": 3.0}


def measured(what, model, threads, *more, cache, script="module_cells.py"):
    """Rows of one child process; `cache` is where torch keeps what it has compiled."""
    command = [sys.executable, str(Path(__file__).with_name(script)), what, model, str(threads), *more]
    variables = {**child_environment(threads), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    variables |= memory_environment() if what == "memory" else {}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            yield json.loads(line)
    assert child.returncode == 0, f"{model}, {threads} threads"


@pytest.fixture(scope="module")
def rows(request, tmp_path_factory):
    path, quick = request.config.getoption("modules_csv"), request.config.getoption("modules_quick")
    if request.config.getoption("modules_read"):
        return list(read(path))
    jobs = [("time", model, threads, SIZES) for threads in (1, 2) for model in zoo.ZOO]
    jobs += [("memory", model, 1, MEMORY_SIZE) for model in SHORT_CUTS]
    if quick:
        jobs = [("time", "mlp", 1, "16,64"), ("memory", "mlp", 1, "64")]
    found, cache = [], tmp_path_factory.mktemp("compiled")
    with open(path or "/dev/null", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for job in jobs:
            print(*job, flush=True)
            for row in measured(*job, cache=cache):
                writer.writerow({name: short(value) for name, value in row.items()})
                file.flush()
                found.append(row)
    return found


def short(value):
    return f"{value:.4g}" if isinstance(value, float) else value


def read(path):
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            row |= {name: float(row[name]) if row[name] else None for name in NUMBERS}
            yield row | {name: int(row[name]) for name in ("n", "threads", "parameters")}


@pytest.fixture(scope="module")
def asserts(request):
    return not request.config.getoption("modules_quick")


def cells(rows, quantity):
    """Times by cell and kernel."""
    found = defaultdict(dict)
    for row in rows:
        if row["status"] == "ok" and row["quantity"] == quantity and row.get("seconds"):
            found[row["model"], row["n"], row["threads"]][row["kernel"]] = row
    return found


def is_peer(kernel):
    return kernel.startswith(PEERS)


def fastest(cell, chosen):
    """The fastest row among kernels that are `chosen`; None without any."""
    able = [row for kernel, row in cell.items() if chosen(kernel)]
    return min(able, key=lambda row: row["seconds"], default=None)


def is_way(kernel):
    return kernel not in ("batch", "write")


def fresh(chosen):
    return lambda kernel: chosen(kernel) and is_way(kernel) and not kernel.endswith(OUT)


def geometric(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def verdict(says, figures, least=None, most=None):
    """Print figures by cell, and return what misses the limit."""
    missed = {
        cell: ratio for cell, ratio in figures.items()
        if (least is not None and ratio < least) or (most is not None and ratio > most)
    }  # fmt: skip
    limit = f">= {least:g}" if least is not None else f"<= {most:g}"
    print(f"\n{says} (limit {limit}): {len(figures) - len(missed)} of {len(figures)} cells")
    for cell, ratio in figures.items():
        print(f"  {cell}: {ratio:.3g}{' MISSED' if cell in missed else ''}")
    return missed


def test_the_table(rows):
    """Winner, its share of the limit and the best peer for every cell, as Markdown."""
    for threads in (1, 2):
        print(f"\n{threads} thread{'s' if threads > 1 else ''}\n")
        print("| model | n | batch | winner | time | of the limit | into `out=` | best peer | times as fast |")
        print("|---|--:|--:|---|--:|--:|--:|---|--:|")
        for (model, n, of), ways in cells(rows, "per_sample").items():
            if of == threads:
                print(f"| {model} | {n:,} | {' | '.join(columns(ways))} |")


def columns(ways):
    best, given, peer = fastest(ways, fresh(is_way)), fastest(ways, is_way), fastest(ways, fresh(is_peer))
    way, of_peer = (row["kernel"].removesuffix(".per_sample") for row in (best, peer))
    yield from (f"{ways['batch']['seconds'] * 1e3:.3g} ms", f"`{way}`", f"{best['seconds'] * 1e3:.3g} ms")
    yield from (f"{best['of_limit']:.2f}", f"{given['of_limit']:.2f}", f"`{of_peer}`")
    yield f"{peer['seconds'] / best['seconds']:.1f}"


def test_the_winner_is_never_slower_than_a_peer_and_mostly_much_faster(rows, asserts):
    ratios, opacus = {}, {}
    for cell, ways in cells(rows, "per_sample").items():
        best = fastest(ways, fresh(is_way))["seconds"]
        ratios[cell] = fastest(ways, fresh(is_peer))["seconds"] / best
        if "opacus.hooks.per_sample" in ways:
            opacus[cell] = ways["opacus.hooks.per_sample"]["seconds"] / best
    missed = verdict("best peer over winner", ratios, least=0.98)
    means = geometric(ratios.values()), geometric(opacus.values())
    print(f"geometric means: {means[0]:.3g} x the best peer (limit 1.5), {means[1]:.3g} x Opacus hooks (limit 3)")
    if asserts:
        assert not missed
        assert means[0] >= 1.5
        assert means[1] >= 3


def test_the_winner_is_near_the_limit(rows, asserts):
    """The least of the ways, with memory given or not."""
    figures = {
        cell: fastest(ways, is_way)["of_limit"] / WITHIN[cell[0]]
        for cell, ways in cells(rows, "per_sample").items()
        if cell[1] >= 64
    }
    missed = verdict("time over limit, divided by what is allowed for the model", figures, most=1.0)
    assert not (asserts and missed)


def test_the_hooks_alone_match_opacus_hooks_and_backpack(rows, asserts):
    figures = {}
    for cell, ways in cells(rows, "per_sample").items():
        peer = fastest(ways, lambda kernel: kernel in ("opacus.hooks.per_sample", "backpack.batch.per_sample"))
        if peer:
            figures[cell] = peer["seconds"] / ways[HOOKS]["seconds"]
    missed = verdict("best of Opacus hooks and BackPACK over torch.hooks", figures, least=1.0)
    assert not (asserts and missed)


def test_large_results_are_written_once(rows, asserts):
    figures = {}
    for cell, ways in cells(rows, "per_sample").items():
        if cell[0] == "mlp" and cell[1] == 1024:
            peer = fastest(ways, fresh(is_peer))["seconds"]
            figures[*cell, "fresh, halves"] = peer / fastest(ways, fresh(is_way))["seconds"] / 2
            figures[*cell, "out=, fifths"] = peer / fastest(ways, is_way)["seconds"] / 5
    missed = verdict("best peer over winner, MLP, n = 1024", figures, least=1.0)
    assert not (asserts and missed)


@pytest.mark.parametrize("quantity", ["norms", "clipped_sum"])
def test_short_cuts_cost_hardly_more_than_a_batch(rows, asserts, quantity):
    figures = {cell: fastest(ways, fresh(is_way))["of_batch"] for cell, ways in cells(rows, quantity).items()}
    missed = verdict(f"{quantity}, time over a plain batch backward", figures, most=1.5)
    peaks = defaultdict(dict)
    for row in rows:
        if row["quantity"] == quantity and row.get("peak_bytes"):
            peaks[row["model"], row["n"], row["threads"]][row["kernel"]] = row["peak_bytes"]
    # Of the way that is fastest there: another one's memory would be no help to who takes it.
    timed = cells(rows, quantity)
    memory = {
        (*cell, way): ways[way] / ways["batch"]
        for cell, ways in peaks.items()
        for way in [fastest(timed[cell], fresh(is_way))["kernel"]]
    }
    missed |= verdict(f"{quantity}, peak memory of the fastest over a plain batch backward's", memory, most=1.2)
    assert not (asserts and missed)
