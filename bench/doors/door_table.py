"""Print a table of a door's rows in results/doors.csv, an example a row and a number of samples a column.

python bench/doors/door_table.py opacus
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

ROWS = Path(__file__).parents[2] / "results" / "doors.csv"


def table(door):
    """Return the table's text: ratios of times, the disagreement last."""
    with ROWS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["door"] == door]
    sizes = sorted({int(row["n"]) for row in rows})
    examples = list(dict.fromkeys(row["example"] for row in rows))
    ratios = {(row["example"], int(row["n"])): f"{float(row['ratio']):.2f}" for row in rows}
    lines = [["example", *(f"n = {n:,}" for n in sizes), "disagreement"], ["---"] * (len(sizes) + 2)]
    for example in examples:
        off = max(float(row["disagreement"]) for row in rows if row["example"] == example)
        lines.append([example, *(ratios.get((example, n), "") for n in sizes), f"{off:.0e}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    print(table(sys.argv[1]))
