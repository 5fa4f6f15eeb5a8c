"""Two runs as a comparison takes them: one row of each, and rows of yardsticks."""

from measured import passes

from gradkernels.bench.compare.compare import compare


def only_row(before, after, **options):
    (row,) = compare(before, after, **options).rows
    return row


def yardsticks(control, canary, **changes):
    return passes(control, kernel="control", **changes) + passes(canary, kernel="canary", **changes)
