"""`gradkernels merge`: several results files as one."""

from __future__ import annotations

from gradkernels.bench.cli import file_options
from gradkernels.bench.cli.files import require_output, write_whole_lines
from gradkernels.bench.results.merging import MergedRows
from gradkernels.bench.sweep.coverage import Coverage
from gradkernels.names import counted
from gradkernels.record import SCHEMA


def merge(files: file_options.MergedFiles, out: file_options.MadeFile, force: file_options.ReplaceMade = False) -> None:
    """Put results files together: every measurement once, in the columns of now, whole or not at all.

    Two rows of one measurement that differ are refused, with both lines and what they differ in. Of the shards of a run
    (run --shard) it says which are missing, and which cases several have measured.
    """
    require_output(out, files, force, "to merge")
    for path in files:
        path.open("rb").close()  # what cannot be opened is named before anything is written
    coverage = Coverage()
    merged = MergedRows(coverage.add)
    write_whole_lines(out, merged.lines(files))
    parts = [counted(merged.rows, "row")]
    if merged.repeated:
        were = "was" if merged.repeated == 1 else "were"
        parts.append(f"{counted(merged.repeated, 'row')} left out that {were} there already")
    if merged.upgraded:
        parts.append(f"{counted(merged.upgraded, 'row')} brought to schema {SCHEMA}")
    print(f"{out}: {', '.join(parts)}", *coverage.sentences(), sep="\n")
