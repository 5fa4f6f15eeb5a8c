"""Results of `gradkernels run` as the suites and tables of this folder read them: medians over passes, and ratios.

`make modules` and `make memory` measure; what they measured is kept in results/.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gradkernels.key import OUT, Key

RESULTS = Path(__file__).parents[1] / "results"


class Readings:
    """Times of kernels that were proven, in several files of results.

    Args:
        pattern: Of file names in results/; what a star stands for is the name of a file's rows.
    """

    def __init__(self, pattern):
        before, after = pattern.split("*")
        frames = []
        for path in sorted(RESULTS.glob(pattern)):
            name = path.name.removeprefix(before).removesuffix(after)
            frames.append(pd.read_csv(path).assign(name=name))
        if not frames:
            raise FileNotFoundError(f"no {RESULTS / pattern}; see the Makefile for the command that measures it")
        self.frame = pd.concat(frames, ignore_index=True)
        ok = self.frame[(self.frame["status"] == "ok") & self.frame["seconds_median"].notna()]
        self.ok = ok.assign(way=[key.way + OUT * key.out for key in map(Key.parse, ok["kernel"])])

    def cells(self, quantity):
        """`(name, n, features, threads)` of each case, in the order of the files."""
        keys = ["name", "n", "features", "threads"]
        some = self.ok[self.ok["quantity"] == quantity]
        return list(dict.fromkeys(some[keys].itertuples(index=False, name=None)))

    def passes(self, cell, quantity, column="seconds_median"):
        """A table of one case: a row for each pass, a column for each kernel, named without its quantity."""
        name, n, features, threads = cell
        ok = self.ok
        same = (ok["name"] == name) & (ok["n"] == n) & (ok["features"] == features) & (ok["threads"] == threads)
        return ok[same & (ok["quantity"] == quantity)].pivot_table(index="pass", columns="way", values=column)

    def seconds(self, cell, quantity):
        """Seconds of a call of each kernel, the median over passes, fastest first."""
        return self.passes(cell, quantity).median().sort_values()


def ratio(above, below):
    """Median over passes of one time over another; both are columns of tables by pass."""
    return float((above / below).median())


def judge(says, figures, least=None, most=None):
    """Print figures by case, and return those that miss the limit; without any figure nothing is shown to hold."""
    assert figures, f"{says}: no case was measured"
    missed = {
        cell: figure for cell, figure in figures.items()
        if (least is not None and figure < least) or (most is not None and figure > most)
    }  # fmt: skip
    limit = f">= {least:g}" if least is not None else f"<= {most:g}"
    print(f"\n{says} (limit {limit}): {len(figures) - len(missed)} of {len(figures)}")
    for cell, figure in figures.items():
        print(f"  {cell}: {figure:.3g}{' MISSED' if cell in missed else ''}")
    return missed
