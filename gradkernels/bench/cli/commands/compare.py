"""`gradkernels compare`: two sets of results, case by case."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.options import Format
from gradkernels.bench.compare.compare import compare as compare_records
from gradkernels.bench.compare.comparison import Comparison
from gradkernels.bench.compare.matching import pooled, select
from gradkernels.bench.compare.thresholds_toml import chosen
from gradkernels.bench.report.comparison_table import as_csv, as_json, markdown, styled_table
from gradkernels.bench.report.comparison_text import summary_sentences
from gradkernels.bench.report.terminal.consoles import INDENT, console_for, say
from gradkernels.bench.report.terminal.styles import style_of_sentence

VERSUS = "vs"


def compare(
    files: options.ComparedFiles,
    fail_slower: options.FailSlower = None,
    fail_undecided: options.FailUndecidedRow = False,
    fail_missing: options.FailMissing = False,
    delta: options.Delta = None,
    thresholds: options.CompareThresholds = None,
    kernel: options.KernelGlobs = None,
    quantity: options.QuantityName = None,
    format_: options.Printed = Format.table,
    wide: options.Wide = False,
    force: options.ForceCompare = False,
) -> int:
    """Say for each kernel and case of two sets of results whether B is slower, faster or the same as A.

    A verdict is about its own row. --fail-slower is about all of them: it fails on what is slower by more than its
    limit for all rows at once (Holm), so that a suite without a change passes as surely as a single row does.
    --fail-slower 0% fails on whatever is surely slower by more than --delta.

    Exit codes: 0 compared; 1 something is too slow; 2 bad usage or bad input; 3 undecided; 4 a proof failed;
    5 contaminated (identical code was seen to differ), or nothing was measured in common; 6 --fail-missing found
    something.
    """
    limits = chosen(thresholds, Path.cwd(), delta, fail_slower, "--")
    (before, one), (after, other) = map(pooled, sides(files))
    before, after = select([before, after], kernel or [], quantity)
    comparison = compare_records(before, after, limits, force, (one, other))
    show_comparison(comparison, format_, wide)
    return comparison.exit_code(fail_undecided, fail_missing)


def sides(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files before and after the change: two, or any number on each side of the word `vs`.

    Raises:
        ValueError: Neither.
    """
    words = [str(file) for file in files]
    if words.count(VERSUS) == 1:
        middle = words.index(VERSUS)
        before, after = list(files[:middle]), list(files[middle + 1 :])
        if before and after:
            return before, after
    elif len(files) == 2 and VERSUS not in words:
        return [files[0]], [files[1]]
    raise ValueError(
        f"compare {' '.join(words)}: name two results files, or several with the word {VERSUS} between the sides, "
        f"for instance gradkernels compare A1.csv A2.csv {VERSUS} B.csv"
    )


def show_comparison(comparison: Comparison, format_: Format, wide: bool = False) -> None:
    """Print a comparison; CSV and JSON have standard output to themselves.

    Args:
        comparison: Of two sides.
        format_: How to print it.
        wide: Whether a table has all columns, however wide it gets.
    """
    if format_ is Format.table:
        _show(comparison, wide)
        return
    writers = {Format.markdown: markdown, Format.csv: as_csv, Format.json: as_json}
    sys.stdout.write(parse.chosen_writer(format_, writers)(comparison))
    if format_ is not Format.markdown:
        print(*summary_sentences(comparison), sep="\n", file=sys.stderr)


def _show(comparison: Comparison, wide: bool) -> None:
    console = console_for()
    lines, missing = styled_table(comparison, None if wide else console.width)
    for line in lines:
        console.print(line)
    if missing:
        say(console, f"with --wide also: {', '.join(missing)}")
    console.print()
    for sentence in summary_sentences(comparison, missing):
        say(console, sentence, style_of_sentence(sentence), hanging=INDENT)
