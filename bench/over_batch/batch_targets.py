"""What is to be reached, and how far the cells of `python bench/over_batch` are from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from batch_orders import QUANTITIES
from batch_short import by_time_of_batch, jax_lines, jax_table, name, short
from batch_table import cells_of, costs, means, refusals, table

SMALL, LARGE = range(1, 33), range(128, 1025)
SMALL_MEANS = {"per_sample": 1.0, "norms": 0.8, "clipped_sum": 1.1, "gradient": 0.7}
SMALL_WORST = 1.4
ROWS_MEAN, ROWS_WORST, SHORT_CUTS, MEMORY = 1.15, 1.5, 1.2, 1.2
PEERS_MEAN, PEERS_WORST = 3.0, 1.0
RECORDING_SECONDS = 2.0
WORST_SHOWN = 5


def print_tables(records):
    """Print everything that a results file shows.

    Args:
        records: Rows of the file.
    """
    cells = cells_of(records)
    print("\nTime over a plain forward and backward pass of the batch; a dash: none, or not measured.")
    for threads in sorted({at[0] for at in cells}):
        print("", *table(cells, threads), "", *costs(cells, threads), sep="\n")
    print(
        "\nAgainst the targets, by the fastest of our ways in each cell; nothing of ours compiles unless asked for.\n"
    )
    print(*summary(cells), sep="\n")
    print("\nThe worst cells of what is missed:")
    print(*(line for target in targets_by_threads(cells) for line in target.worst_cells()), sep="\n")
    print("\nJAX's vmap, jitted, over ours, each over the plain batch that it took turns with:")
    print(*jax_lines(cells), sep="\n")
    print("\nWithout a time:", *refusals(records), sep="\n")


def summary(cells):
    """Yield a row for each target and number of threads, then what falls short and what bounds it, as Markdown."""
    found = targets_by_threads(cells)
    yield "| over n | what | cells | geometric mean | at most | worst | at most | missed in |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    yield from (target.row() for target in found)
    yield ""
    yield from short(cells, found)
    yield ""
    yield from by_time_of_batch(cells)
    yield from jax_table(cells)


def targets_by_threads(cells):
    """List every target, for each number of threads."""
    counts = sorted({at[0] for at in cells})
    found = [(count, target) for count in counts
             for target in targets({at: cell for at, cell in cells.items() if at[0] == count})]  # fmt: skip
    if len(counts) < 2:
        return [target for _, target in found]
    return [replace(target, sizes=f"{target.sizes}, {count} thread{'s' * (count > 1)}") for count, target in found]


@dataclass(frozen=True)
class Target:
    """Figures that are to be small.

    Attributes:
        sizes: Of which cells.
        says: What they are.
        figures: By cell.
        mean: The largest geometric mean that is wanted, if any.
        worst: The largest figure that is wanted.
    """

    sizes: str
    says: str
    figures: dict
    mean: float | None
    worst: float

    @property
    def is_time(self):
        """Whether they are of times over a batch's."""
        return "over" in self.says and "memory" not in self.says

    def row(self):
        """Return it as a row of the summary."""
        if not self.figures:
            return f"| {self.sizes} | {self.says} | 0 | | | | | |"
        mean, worst = means(self.figures.values()), max(self.figures.values())
        aim = "" if self.mean is None else f"{self.mean:.2f}{' MISSED' * (mean > self.mean)}"
        return (
            f"| {self.sizes} | {self.says} | {len(self.figures)} | {mean:.2f} | {aim} | {worst:.2f} | {self.worst:.2f} "
            f"| {len(self.over)} |"
        )

    @property
    def over(self):
        """Cells that are over the limit of the worst, the worst first."""
        order = sorted(self.figures, key=self.figures.get, reverse=True)
        return [at for at in order if self.figures[at] > self.worst]

    def worst_cells(self):
        """Yield lines with some of them."""
        if self.over:
            yield f"  {self.says} ({self.sizes}): " + "; ".join(
                f"{self.figures[at]:.2f} {name(at)}" for at in self.over[:WORST_SHOWN]
            )


def ours(cells, sizes, quantity, over=lambda cell: 1.0):
    """Time of our fastest over something, of cells that have these sizes."""
    return {at: cell.ours[1] / over(cell) for at, cell in cells.items()
            if at[2] in sizes and at[3] == quantity and cell.ours}  # fmt: skip


def targets(cells):
    """Yield every target."""
    for quantity in QUANTITIES:
        yield Target("8 to 32", f"{quantity} over a batch", ours(cells, SMALL, quantity), SMALL_MEANS[quantity],
                     SMALL_WORST)  # fmt: skip
    rows = ours(cells, LARGE, "per_sample", lambda cell: cell.limit)
    yield Target("128 to 1,024", "per_sample over batch and writing", rows, ROWS_MEAN, ROWS_WORST)
    for quantity in ("norms", "clipped_sum"):
        figures = ours(cells, LARGE, quantity)
        yield Target("128 to 1,024", f"{quantity} over a batch", figures, None, SHORT_CUTS)
        peaks = {at: cells[at].memory for at in figures if cells[at].memory is not None}
        yield Target("128 to 1,024", f"{quantity}, peak memory over a batch's", peaks, None, MEMORY)
    others = {at: cell.ours[1] / cell.peer[1] for at, cell in cells.items() if cell.ours and cell.peer}
    yield Target("all", "time over the best of the others", others, 1 / PEERS_MEAN, PEERS_WORST)
    yield Target("all", "longest first call of what is recorded, seconds", recording(cells), None, RECORDING_SECONDS)


def recording(cells):
    """Seconds of the longest first call over n, for each model, quantity and number of threads."""
    found = {}
    for at, cell in sorted(cells.items(), key=lambda one: one[1].recording or 0.0):
        if cell.recording:
            found[at[0], at[1], at[3]] = at, cell.recording
    return dict(found.values())
