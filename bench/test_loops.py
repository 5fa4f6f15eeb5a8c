"""What a training loop costs beyond a plain one: new sizes, new lengths, the first call, what is kept.

    pytest bench/test_loops.py -s --loops-csv results/loops.csv               # about 15 minutes, gradkernels[real]

Each figure is of a process of its own (see `loop_cells.py`), and a ratio within it where that is possible.
"""

from __future__ import annotations

import csv

import pytest
from processes import rows

COLUMNS = ("what", "model", "figure", "ratio", "limit", "met")
JOBS = {
    "new_n": ("cnn", "bert", "gpt2"),
    "new_length": ("bert",),
    "first_call": ("",),
    "kept": ("",),
    "written": ("",),
    "checkpointed": ("bert", "llama lora"),
    "training": ("bert", "gpt2"),
}


@pytest.fixture(scope="module")
def file(request):
    with open(request.config.getoption("loops_csv") or "/dev/null", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        yield file


@pytest.mark.parametrize(("what", "model"), [(what, model) for what, models in JOBS.items() for model in models])
def test_within_its_limit(what, model, file):
    missed = []
    for row in rows("loop_cells.py", what, model):
        judged = row["figure"] if row["ratio"] is None else row["ratio"]
        row["met"] = "" if row["limit"] is None else judged <= row["limit"]
        csv.writer(file, lineterminator="\n").writerow(
            [f"{row[name]:.3g}" if isinstance(row[name], float) else row[name] for name in COLUMNS]
        )
        file.flush()
        print(f"\n{row['what']}, {row['model']}: {judged:.3g} (limit {row['limit']})", flush=True)
        missed += [row["what"]] if row["met"] is False else []
    assert not missed
