"""Wisdom, in FFTW's sense: what was measured, made small enough to choose a kernel by.

1. `entry` says what an entry is: each kernel's points over n for one problem, quantity, dtype, device, threads, layout,
   number of features and machine, each point with when, from what and in how many passes it was measured. What is
   read, learned or written has to be so.
2. `curves` tells a kernel's seconds and bytes at any size from its points.
3. `learning` makes entries of records, and merges tables point by point: a newer measurement takes the place of the
   same point alone.
4. `text` is the file format, JSON; entries that cannot be read are kept as they are when the file is written again.
5. `lock` holds the file against other processes, `store` finds, reads and saves this machine's choice.
6. `coverage` tells which of several tables was measured nearest to the sizes that are asked for.

Nothing that a file holds stops a computation: what cannot be used is passed over with one warning (`warn`), which names
the file and the entry.
"""

from gradkernels.dispatch.wisdom.coverage import FARTHEST, Known, beyond, nearest_entry, preferred, span
from gradkernels.dispatch.wisdom.curves import bytes_at, seconds_at
from gradkernels.dispatch.wisdom.entry import MeasuredPoint, Origin, Wisdom, WisdomEntry, described
from gradkernels.dispatch.wisdom.learning import learn, merged_tables
from gradkernels.dispatch.wisdom.store import (
    ENVIRONMENT,
    measured,
    remember,
    save,
    saved,
    saved_path,
    shipped,
    unsaved,
)
from gradkernels.dispatch.wisdom.text import WISDOM_SCHEMA, dumps, loads
from gradkernels.dispatch.wisdom.warn import pass_over

__all__ = [
    "ENVIRONMENT",
    "FARTHEST",
    "WISDOM_SCHEMA",
    "Known",
    "MeasuredPoint",
    "Origin",
    "Wisdom",
    "WisdomEntry",
    "beyond",
    "bytes_at",
    "described",
    "dumps",
    "learn",
    "loads",
    "measured",
    "merged_tables",
    "nearest_entry",
    "pass_over",
    "preferred",
    "remember",
    "save",
    "saved",
    "saved_path",
    "seconds_at",
    "shipped",
    "span",
    "unsaved",
]
