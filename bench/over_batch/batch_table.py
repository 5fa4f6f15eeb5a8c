"""The tables of `python bench/over_batch`: every cell, geometric means and the worst cells beside their targets."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import median

from batch_orders import QUANTITIES
from batch_plan import JAX_SUFFIX
from batch_race import WRITE
from batch_run import model_of

from gradkernels.key import BATCH, Key
from gradkernels.record import Status

HOOKS, RECORDED = "torch.hooks", "torch.recorded"
OTHERS = ("opacus.", "backpack.", "torch.vmap")
SHORT = {"per_sample": "rows", "norms": "norms", "clipped_sum": "sum", "gradient": "gradient"}


class Cell:
    """One model, size, quantity and number of threads: times and peaks by way, of one pass or several.

    Times are over those of the plain batch of the same pass, with whose slices they took turns.
    """

    def __init__(self, rows):
        passes = defaultdict(dict)
        self.peaks, self.first, self.ways = {}, {}, {}
        for row in rows:
            key, found = Key.parse(row.kernel), row.measurement
            way = key.way
            if found.status == Status.ok:
                passes[row.pass_][way] = found.seconds_median
                self.first[way] = max(self.first.get(way, 0.0), found.seconds_first or 0.0)
                if found.peak_bytes:
                    self.peaks[way] = found.peak_bytes
        whole = [times for times in passes.values() if BATCH in times]
        self.batch = median(times[BATCH] for times in whole) if whole else math.nan
        names = {way for times in whole for way in times}
        self.of_batch = {way: median(times[way] / times[BATCH] for times in whole if way in times) for way in names}

    def best(self, chosen):
        """The fastest way that is chosen and its time over the batch; None without one."""
        some = {way: ratio for way, ratio in self.of_batch.items() if chosen(way)}
        way = min(some, key=some.get, default=None)
        return (way, some[way]) if way else None

    @property
    def ours(self):
        """Our fastest."""
        return self.best(lambda way: way not in (BATCH, WRITE) and not way.startswith((*OTHERS, "jax.")))

    @property
    def peer(self):
        """The fastest of other libraries."""
        return self.best(lambda way: way.startswith(OTHERS))

    @property
    def limit(self):
        """A batch, and for rows their writing, over a batch."""
        return 1 + self.of_batch.get(WRITE, 0.0)

    @property
    def recording(self):
        """Seconds of the first call of what is recorded, the longest; None where nothing is."""
        return max((first for way, first in self.first.items() if plain_way(way) == RECORDED), default=None)

    @property
    def memory(self):
        """Peak of our fastest over that of the batch."""
        if not self.ours or not self.peaks.get(BATCH) or self.ours[0] not in self.peaks:
            return None
        return self.peaks[self.ours[0]] / self.peaks[BATCH]


def cells_of(records):
    """Cells by `(threads, model, n, quantity)`, those without a time of their batch left out."""
    rows = defaultdict(list)
    for row in records:
        rows[row.case.threads, model_of(row), row.case.n, row.case.quantity].append(row)
    found = {at: Cell(some) for at, some in rows.items()}
    return {at: found[at] for at in sorted(found, key=lambda at: (at[0], at[1], at[2])) if found[at].of_batch}


def table(cells, threads):
    """Yield the lines of all cells on some number of threads, as Markdown: times over the plain batch."""
    names = [SHORT[quantity] for quantity in QUANTITIES]
    parts = [("limit" if name == "rows" else "", "hooks", "recorded", "" if name == "gradient" else "best other")
             for name in names]  # fmt: skip
    heads = [f"{name}: {part}" for name, some in zip(names, parts, strict=True) for part in some if part]
    yield f"| {threads} threads: model, n | batch, ms | {' | '.join(heads)} |"
    yield "|---|" + "--:|" * (len(heads) + 1)
    lines = dict.fromkeys(at[1:3] for at in cells if at[0] == threads and not at[1].endswith(JAX_SUFFIX))
    for model, n in lines:
        some = [cells.get((threads, model, n, quantity)) for quantity in QUANTITIES]
        batch = median(cell.batch for cell in some if cell)
        shown = [entry for quantity, cell in zip(QUANTITIES, some, strict=True) for entry in entries(quantity, cell)]
        yield f"| {model}, {n:,} | {batch * 1e3:.3g} | {' | '.join(shown)} |"


def costs(cells, threads):
    """Yield, as Markdown, seconds of first calls of what is recorded, and peak memory of our fastest over a batch's."""
    heads = [f"{SHORT[quantity]}: {what}" for quantity in QUANTITIES for what in ("first call, s", "memory")]
    yield f"| {threads} threads: model, n | {' | '.join(heads)} |"
    yield "|---|" + "--:|" * len(heads)
    for model, n in dict.fromkeys(at[1:3] for at in cells if at[0] == threads and not at[1].endswith(JAX_SUFFIX)):
        some = [cells.get((threads, model, n, quantity)) for quantity in QUANTITIES]
        shown = [f"{figure:.2f}" if figure else "-" for cell in some
                 for figure in ((cell.recording, cell.memory) if cell else (None, None))]  # fmt: skip
        yield f"| {model}, {n:,} | {' | '.join(shown)} |"


def entries(quantity, cell):
    """Yield the entries of a quantity in a line; a dash where nothing was measured."""
    if quantity == "per_sample":
        yield f"{cell.limit:.2f}" if cell else "-"
    for way in (HOOKS, RECORDED):
        found = cell and cell.best(lambda one, way=way: plain_way(one) == way)
        yield f"{found[1]:.2f}" if found else "-"
    if quantity != "gradient":
        yield f"{cell.peer[1]:.2f} `{cell.peer[0]}`" if cell and cell.peer else "-"


def plain_way(way):
    """The way without settings and without the `+` of what is composed."""
    return way.partition("[")[0].rstrip("+")


def means(figures):
    """Geometric mean."""
    return math.exp(sum(map(math.log, figures)) / len(figures))


def refusals(records):
    """Yield each reason why something has no time, with what it is about, but for what is not supported."""
    seen = defaultdict(set)
    for row in records:
        if row.measurement.status not in (Status.ok, Status.unsupported):
            reason = f"{row.measurement.status}: {row.measurement.reason[:160]}"
            seen[reason].add(f"{model_of(row)} {row.case.n} {row.kernel}")
    for reason, some in seen.items():
        yield f"  {', '.join(sorted(some)[:4])}{' ...' if len(some) > 4 else ''}: {reason}"
