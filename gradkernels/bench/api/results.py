"""Results as Python sees them: the records of one or more files, thin around a DataFrame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from gradkernels.bench.api.verdicts import Verdicts, verdicts_between
from gradkernels.bench.cli.files import write_whole
from gradkernels.bench.report.ranking_table import LONG_HEADER, long_rows
from gradkernels.bench.report.ranking_text import show_ranking
from gradkernels.bench.results.reader import require_named_once
from gradkernels.bench.results.table import tabulate
from gradkernels.bench.run.ranking import CaseRanking, rankings, weighed
from gradkernels.key import Key
from gradkernels.names import pick
from gradkernels.record import COLUMNS, HEADER, Record, append, read
from gradkernels.record.blocks import row_identity
from gradkernels.record.reading import twice

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PathName = str | PathLike[str]


@dataclass(frozen=True, repr=False)
class Results:
    """What was measured: one record for each kernel, case and pass.

    Prints as the table of winners; in a notebook it is shown as HTML. Times are seconds per call, memory is bytes.

    Attributes:
        records: In the order in which they were measured.
    """

    records: tuple[Record, ...]

    def __post_init__(self) -> None:
        """Refuse a measurement that is there twice, as every command does of files."""
        first: dict[tuple[object, ...], int] = {}
        for place, record in enumerate(self.records):
            if (other := first.setdefault(row_identity(record), place)) != place:
                raise twice(record, f"records[{other}]", f"records[{place}]")

    @classmethod
    def read(cls, *paths: PathName) -> Results:
        """Read one or more results files.

        Raises:
            ValueError: No path was given, a file is not a results file (names the line and the column), or two of them
                hold the same measurement.
            OSError: A file cannot be opened.
        """
        if not paths:
            raise ValueError("Results.read() was called without a path; name one or more results files")
        require_named_once([Path(path) for path in paths])
        found: dict[tuple[object, ...], tuple[int, Record]] = {}
        for place, path in enumerate(paths):
            for record in read(Path(path)):
                first, _ = found.setdefault(row_identity(record), (place, record))
                if first != place:
                    raise twice(record, str(paths[first]), str(path))
        return cls(tuple(record for _, record in found.values()))

    def write(self, path: PathName) -> None:
        """Write the records to a new file, in the format of `gradkernels run`.

        Raises:
            FileExistsError: There is such a file already.
        """
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(HEADER)
        append(Path(path), self.records)

    @cached_property
    def frame(self) -> DataFrame:
        """Every record as a row, with the columns of the file, which `results/README.md` explains."""
        import pandas as pd

        return pd.DataFrame([record.columns() for record in self.records], columns=[*COLUMNS])

    def summary(self, calls: int | None = None) -> DataFrame:
        """Return one row for each case and kernel: its place, median seconds and distance to the winner, or why not.

        Args:
            calls: How often a kernel is called, to weigh what its first call takes; None for many.
        """
        import pandas as pd

        return pd.DataFrame(long_rows(self._rankings(calls)), columns=[*LONG_HEADER])

    def winners(self, calls: int | None = None) -> DataFrame:
        """Return one row for each case: the fastest kernel.

        Args:
            calls: As for `summary`.
        """
        summary = self.summary(calls)
        columns = [name for name in summary.columns if name not in ("place", "ratio", "low", "high", "absent")]
        return summary[summary["place"] == 1][columns].reset_index(drop=True)

    def compare(self, after: Results, *, delta: float | None = None, force: bool = False) -> Verdicts:
        """Say for each kernel and case whether it is slower, faster or the same in other results.

        Args:
            after: The other results; these are what was before.
            delta: Fraction that a change must exceed to count; 0.01 if None.
            force: Compare across machines, dtypes, layouts, devices or threads if nothing else matches.

        Raises:
            ValueError: They have nothing in common that may be compared.
        """
        return verdicts_between(self.records, after.records, delta, force)

    def plot(self, kind: str = "time", *, baseline: str | None = None, calls: int | None = None) -> Figure:
        """Draw a panel for each table of winners, a line for each way, and as the title what is found.

        Args:
            kind: `time`, `speed` (times as fast as a baseline), `memory`, `limit` (the share of the memory limit that
                is reached) or `break-even` (calls until a first call has paid off).
            baseline: The way that others are compared with, for `speed` and `break-even`; None for `torch.vmap` where
                that was timed.
            calls: As for `summary`.

        Raises:
            ValueError: There is no such kind, nothing of it was measured, or the baseline is none.
            ModuleNotFoundError: matplotlib is not installed.
        """
        try:
            from gradkernels.bench.report.pictures.draw import figure_of
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"plot() needs {error.name}: pip install 'gradkernels[bench]'", name=error.name
            ) from error
        from gradkernels.bench.report.pictures.kinds import SCALES
        from gradkernels.bench.report.pictures.run_content import content_of

        chosen = pick({one.value: one for one in SCALES}, kind, "kind of picture")
        return figure_of(content_of(tabulate(self.records), chosen, baseline, calls))

    def report(self, path: PathName, *, force: bool = False) -> None:
        """Write one HTML page with everything that is known of the records, as `gradkernels report` does.

        Args:
            path: The page, which needs no network and no other file.
            force: Replace a file that is there.

        Raises:
            FileExistsError: There is such a file already, and it is not to be replaced.
            ValueError: No record has a proven time, or a library that draws is missing.
        """
        from gradkernels.bench.report.page.html import page
        from gradkernels.bench.report.page.sources import sources_of

        target = Path(path).expanduser()
        if target.exists() and not force:
            raise FileExistsError(f"{target} is there already; replace it with force=True or name another file")
        write_whole(target, page(sources_of([("these results", self.records)])).encode(errors="replace"))

    def __len__(self) -> int:
        """Count the records."""
        return len(self.records)

    def __str__(self) -> str:
        """Return the tables of winners, as the command line prints them."""
        text = io.StringIO()
        show_ranking(self._rankings(), text)
        return text.getvalue().rstrip()

    def __repr__(self) -> str:
        """Return what is in it in one line."""
        rows = [record for record in self.records if Key.parse(record.kernel).competes]
        cases, kernels = len({row.case for row in rows}), len({row.kernel for row in rows})
        return f"Results({len(self)} records: {cases} cases, {kernels} kernels)"

    def _repr_html_(self) -> str:
        return f"{self.winners().to_html(index=False)}<p>{escape(repr(self))}</p>"

    def _rankings(self, calls: int | None = None) -> Sequence[CaseRanking]:
        return rankings(weighed(self.records, calls))
