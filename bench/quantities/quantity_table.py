"""The tables of `python bench/quantities`: what each call costs in plain passes, beside the others and the aims."""

from __future__ import annotations

import math
from collections import defaultdict

from quantity_rows import BATCH, MISSING

AIMS = {
    "norms by=parameter": 1.2, "inner K=1": 1.3, "gram": 1.8, "project factored": 1.3, "clipped_sum by=parameter": 1.3,
    "clipped_sum rule=automatic": 1.3, "clipped_sum norms_out": 1.3,
}  # fmt: skip
"""Plain passes that a call may take, in the geometric mean over cells of LEAST samples or more."""

LEAST = 64
MEMORY_AIM = 1.3
MEMORY_OF = ("inner K=1", "gram", "project factored")
"""Whose peak is to be within that many times that of a plain pass and the result."""

DEFAULT = "gradkernels"
WORST_SHOWN = 5


class Cell:
    """One model, size and call: its ways, each with its latest row."""

    def __init__(self, rows):
        self.rows = {row.found.kernel: row for row in rows}
        ok = {name: row for name, row in self.rows.items() if row.is_ok and name != BATCH}
        self.ours = _fastest(row for row in ok.values() if not row.found.peer)
        self.peer = _fastest(row for row in ok.values() if row.found.peer)
        self.default = ok.get(DEFAULT)
        self.batch = self.rows.get(BATCH)

    @property
    def memory(self):
        """Peak of our fastest over that of a plain pass and the result; None where it was not measured."""
        row, batch = self.ours, self.batch
        if row is None or row.peak_bytes is None or batch is None or not batch.peak_bytes:
            return None
        return row.peak_bytes / (batch.peak_bytes + row.found.result_bytes)


def _fastest(rows):
    return min(rows, key=lambda row: row.found.ratio, default=None)


def cells_of(rows):
    """Cells by `(label, model, n, threads)`, those that are complete."""
    found = defaultdict(list)
    for row in rows:
        found[row.label, row.model, row.n, row.threads].append(row)
    cells = {at: Cell(some) for at, some in found.items()}
    return {at: cell for at, cell in cells.items() if cell.batch is not None and cell.batch.is_ok}


def labels_of(cells):
    """Return what was asked, calls with an aim first."""
    there = dict.fromkeys(at[0] for at in cells)
    return [label for label in (*AIMS, *(one for one in there if one not in AIMS)) if label in there]


def mean(figures):
    """Geometric mean."""
    return math.exp(sum(map(math.log, figures)) / len(figures))


def summary(rows):
    """Yield the two tables of aims, as Markdown.

    Args:
        rows: Of the file.
    """
    cells = {at: cell for at, cell in cells_of(rows).items() if at[2] >= LEAST and cell.ours}
    yield "| call | cells | fastest of ours | aim | worst | default call | best of the others | behind it in |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for label in labels_of(cells):
        yield call_line(label, {at: cell for at, cell in cells.items() if at[0] == label})
    yield ""
    yield "| peak memory | cells | over a plain pass and the result | aim | worst | over it in |"
    yield "|---|--:|--:|--:|--:|--:|"
    for label in MEMORY_OF:
        found = [cell.memory for at, cell in cells.items() if at[0] == label and cell.memory]
        if found:
            over = sum(one > MEMORY_AIM for one in found)
            yield f"| `{label}` | {len(found)} | {mean(found):.2f} | {MEMORY_AIM} | {max(found):.2f} | {over} |"


def call_line(label, cells):
    """Return the line of a call in the table of aims.

    Args:
        label: Of the call.
        cells: Its cells of LEAST samples or more.
    """
    ours = [cell.ours.found.ratio for cell in cells.values()]
    defaults = [cell.default.found.ratio for cell in cells.values() if cell.default]
    against = [cell.peer.found.ratio / cell.ours.found.ratio for cell in cells.values() if cell.peer]
    aim = AIMS.get(label)
    wanted = "" if aim is None else f"{aim}{' MISSED' * (mean(ours) > aim)}"
    default = f"{mean(defaults):.2f}" if defaults else "-"
    others = f"{mean(against):.2f} times" if against else "-"
    behind = f"{sum(one < 1 for one in against)} of {len(against)}"
    return (
        f"| `{label}` | {len(ours)} | {mean(ours):.2f} | {wanted} | {max(ours):.2f} | {default} | {others} | {behind} |"
    )


def details(rows):
    """Yield a table for each call, with a line for each model and size.

    Args:
        rows: Of the file.
    """
    cells = cells_of(rows)
    for label in labels_of(cells):
        yield f"\n`{label}`, in plain passes\n"
        yield "| model, n, threads | plain pass, ms | fastest of ours | default | best of the others | memory |"
        yield "|---|--:|---|--:|---|--:|"
        for at, cell in cells.items():
            if at[0] == label:
                shown = [f"{at[1]}, {at[2]:,}, {at[3]}", f"{cell.batch.found.seconds * 1e3:.3g}", _named(cell.ours),
                         f"{cell.default.found.ratio:.2f}" if cell.default else "-", _named(cell.peer),
                         f"{cell.memory:.2f}" if cell.memory else "-"]  # fmt: skip
                yield f"| {' | '.join(shown)} |"


def _named(row):
    return "-" if row is None else f"{row.found.ratio:.2f} `{row.found.kernel}`"


def shortfalls(rows):
    """Yield the cells in which another library is faster, the worst of each call, and what has no time and why.

    Args:
        rows: Of the file.
    """
    cells = cells_of(rows)
    for label in labels_of(cells):
        behind = {at: cell.ours.found.ratio / cell.peer.found.ratio for at, cell in cells.items()
                  if at[0] == label and cell.ours and cell.peer}  # fmt: skip
        worst = sorted((at for at in behind if behind[at] > 1), key=behind.get, reverse=True)[:WORST_SHOWN]
        if worst:
            yield f"  {label}: " + "; ".join(
                f"{behind[at]:.2f} times as long as `{cells[at].peer.found.kernel}` on {at[1]}, n = {at[2]}"
                for at in worst
            )
    yield "\nWithout a time:"
    seen = defaultdict(set)
    for cell in cells.values():
        for row in cell.rows.values():
            if not row.is_ok:
                where = "" if row.found.status.startswith(MISSING) else f" {row.model} {row.n} {row.label}"
                seen[f"{row.found.kernel}: {row.found.status[:200]}"].add(where)
    for reason, some in seen.items():
        yield f"  {reason} ({len(some)}:{min(some) or ' everywhere'})"
