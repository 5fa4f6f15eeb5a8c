"""What three large jobs would cost, worked out from measurements in `results`: the tables of docs/scale.md.

Each line is a name, a figure and where it comes from; what was measured is read from the files and named with them.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parents[1] / "results"
ROWS, FEATURES = 10**9, 30
SAMPLES, PARAMETERS, TOKENS, SIZE, WIDTH = 10**7, 10**9, 512, 512, 2048
SPEED = 4e14
"""Operations a second that an accelerator is assumed to reach: 40% of 10^15."""

MACHINES = 1000
UNITS = {"B": "", "kB": "e3", "MB": "e6", "GB": "e9", "TB": "e12", "PB": "e15"}
Line = tuple[str, str, str]


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of a file of results."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def last(measure: str) -> dict[str, str]:
    """The newest row of a measure of scale.csv."""
    return [row for row in rows_of("scale.csv") if row["measure"].startswith(measure)][-1]


def value(measure: str) -> float:
    """Its figure."""
    return float(last(measure)["value"])


def size(count: float) -> str:
    """So many bytes, three digits."""
    unit, power = next(one for one in reversed(UNITS.items()) if count >= float(f"1{one[1]}") or one[0] == "B")
    return f"{count / float(f'1{power}'):.3g} {unit}"


def spell(seconds: float) -> str:
    """So many seconds, two digits."""
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def regression() -> list[Line]:
    """A gradient over 10^9 rows of 30 features."""
    own, pass_ = ROWS * FEATURES * 8, last("seconds of a pass")
    speed = float(pass_["gigabytes"]) * 1e9 / float(pass_["value"])
    blocks = math.ceil(own / (float(pass_["gigabytes"]) * 1e9) * int(pass_["blocks"]))
    each = value("a task of distributed") / 1e3
    return [
        ("x in float64", size(own), "10^9 x 30 x 8 B"),
        ("one pass on two cores", spell(own / speed), f"{size(speed)}/s measured (`seconds of a pass`)"),
        (
            "memory of that",
            f"{value('peak memory of all'):.2g} GiB",
            f"measured at {float(pass_['gigabytes']):g} GB; it is that of the blocks at work, not of the rows",
        ),
        ("blocks of 33 MB", f"{blocks:,}", "as measured"),
        (
            "what one scheduler takes to hand them out",
            spell(blocks * each),
            f"{1e3 * each:.3g} ms measured (`a task of distributed that does nothing`)",
        ),
        ("one pass on 16 such machines, if reading keeps up", spell(own / speed / 16), "a sixteenth"),
        ("what reading has to bring then", f"{size(16 * speed)}/s", "16 times the speed of one"),
        ("the scheduler, with blocks of 0.5 GB", spell(blocks * each / 16), "a sixteenth of the blocks"),
    ]


def projections() -> list[Line]:
    """Projections of 10^7 samples of a model of 10^9 parameters."""
    found = [
        row
        for row in rows_of("quantities.csv")
        if row["quantity"] == "project" and row["kernel"] == "gradkernels" and row["status"] == "ok"
    ]
    language = [row for row in found if row["model"] in ("bert", "gpt2", "llama")]
    ratio = median(float(row["ratio"]) for row in language)
    bytes_ = {int(row["result_bytes"]) // int(row["n"]) for row in found}
    layers, factors = PARAMETERS / WIDTH**2, (16 + 32) * WIDTH
    plain = 6 * PARAMETERS * TOKENS
    added = layers * 2 * TOKENS * factors / plain
    whole = SAMPLES * plain * ratio
    return [
        ("the result, 512 numbers a sample", size(SAMPLES * max(bytes_)), f"10^7 x {max(bytes_):,} B, as measured"),
        ("all gradients, if anybody formed them", size(4 * SAMPLES * PARAMETERS), "10^7 x 10^9 x 4 B"),
        ("a gaussian matrix, which every batch makes anew", size(4 * SIZE * PARAMETERS), "512 x 10^9 x 4 B"),
        (
            'the matrices of `kind="factored"`',
            size(4 * layers * factors),
            f"(16 + 32) x {WIDTH} x 4 B for each of {layers:.0f} layers of {WIDTH} x {WIDTH}",
        ),
        ("a plain pass of a sample of 512 tokens", f"{plain:.1e} operations", "6 x 10^9 x 512"),
        ("what factors add to it", f"{added:.1%}", "2 x 512 tokens x those numbers"),
        (
            "the call over a plain pass",
            f"{ratio:.2f}",
            "median of BERT, GPT-2 and Llama, made small (`quantities.csv`, factored)",
        ),
        (
            "on one accelerator",
            spell(whole / SPEED),
            f"10^7 x both, at {SPEED:.0e} operations a second, which is assumed",
        ),
        ("on 64", spell(whole / SPEED / 64), "samples are independent: nothing is exchanged"),
    ]


def sweep() -> list[Line]:
    """A run on 1,000 machines, each with as many cases as the default run."""
    rows = rows_of("reference.csv")
    bytes_ = (RESULTS / "reference.csv").stat().st_size
    cases = len({(row["problem"], row["quantity"], row["n"]) for row in rows})
    count, seconds = MACHINES * len(rows), 65
    times = [row for row in rows_of("scale.csv") if row["measure"].endswith("processor time of a row")]
    merge = float([row for row in times if row["measure"].startswith("merge")][-1]["value"])
    compare = float([row for row in times if row["measure"].startswith("compare")][-1]["value"])
    task = value("a task of distributed that does nothing")
    return [
        (f"a shard: {cases} cases, {len(rows):,} rows", size(bytes_), "`reference.csv`, the default run"),
        ("measured in parallel", spell(seconds), "the budget of a shard; proofs and starts come on top"),
        ("the same on one machine", spell(MACHINES * seconds), "1,000 x 65 s"),
        ("all rows", f"{count:,}, {size(MACHINES * bytes_)}", "1,000 files"),
        ("`merge`, on one core", spell(count * merge / 1e6), f"{merge:.0f} µs a row measured"),
        ("`compare` of two such sweeps", spell(2 * count * compare / 1e6), f"{compare:.0f} µs a row measured"),
        (
            "rows that reach the disk in a second",
            f"{count / seconds:,.0f}",
            "each is synced before the next one",
        ),
        (
            "a scheduler of dask, a task for each case",
            spell(MACHINES * cases * task / 1e3),
            f"{task:.3g} ms measured (`a task of distributed that does nothing`)",
        ),
    ]


def table(lines: list[Line]) -> str:
    """Lines as a table of Markdown."""
    return "\n".join(["| | is | from |", "|---|--:|---|", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def tables() -> dict[str, str]:
    """The three tables by name."""
    return {name.__name__: table(name()) for name in (regression, projections, sweep)}


if __name__ == "__main__":
    print(*tables().values(), sep="\n")
