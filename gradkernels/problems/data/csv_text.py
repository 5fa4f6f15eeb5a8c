"""Text with a sign between its columns: CSV, and TSV with tabs, as named columns."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from gradkernels.names import counted
from gradkernels.problems.data.optional import needs, reason
from gradkernels.problems.data.table import Table

SIGNS = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|", r"\t": "\t"}
"""Signs between columns that have a name."""


def separator(text: str) -> str:
    """Return the sign that stands between columns, as it is or by its name.

    Raises:
        ValueError: It is none.
    """
    sign = SIGNS.get(text, text)
    if len(sign) != 1 or sign in '"\n\r' or sign.isalnum():
        names = ", ".join(name for name in SIGNS if name.isalpha())
        raise ValueError(f"--sep {text!r} (sep=) cannot stand between columns; write one sign, or {names}")
    return sign


def read_separated(name: str, raw: bytes, sign: str) -> Table:
    """Read a table from UTF-8 text whose first line has the names of the columns.

    Args:
        name: Of the file.
        raw: What it holds.
        sign: Between columns.
    """
    pandas = needs("pandas", "pandas", f"reading {name}")
    try:
        # One kind of line end: pandas loses empty rows after a blank line that ends in a bare carriage return.
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from None
    source = _Text(name, text, sign)
    header = source.header()
    try:
        frame = pandas.read_csv(
            io.StringIO(text), sep=sign, low_memory=False, index_col=False, skipinitialspace=True, engine="c"
        )
    except ValueError as error:
        raise ValueError(source.fault(header, str(error))) from None
    values = tuple(frame.iloc[:, position].to_numpy() for position in range(len(header)))
    return Table(name, header, values, lambda row: f"row {row + 1} (line {source.line(row)})")


@dataclass(frozen=True)
class _Text:
    """The text of a file, of which messages name lines."""

    name: str
    text: str
    sign: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield rows that are not blank, with the line that each starts on, counted from 1."""
        lines = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.sign, skipinitialspace=True)
        start = 1
        try:
            for row in lines:
                if len(row) > 1 or (row and row[0].strip()):
                    yield start, row
                start = lines.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{self.name} is not a CSV file that can be read, line {start}: {error}") from None

    def header(self) -> tuple[str, ...]:
        """Read column names without surrounding spaces, here because pandas renames duplicates.

        Raises:
            ValueError: The first row is longer than the header: pandas would drop a field.
        """
        rows = self.rows()
        header = tuple(field.strip() for field in next(rows, (1, []))[1])
        line, first = next(rows, (1, []))
        if len(first) > len(header):
            raise ValueError(self._too_long(line, first, header))
        return header

    def line(self, row: int) -> int:
        """Return the line on which a row below the header starts."""
        return next(itertools.islice(self.rows(), row + 1, None))[0]

    def fault(self, header: tuple[str, ...], otherwise: str) -> str:
        """Return what is wrong with a text that pandas does not read, with its own words if nothing else is seen."""
        for line, row in self.rows():
            if len(row) > len(header):
                return self._too_long(line, row, header)
        return f"{self.name} is not a CSV file that can be read: {reason(otherwise)}"

    def _too_long(self, line: int, row: list[str], header: tuple[str, ...]) -> str:
        fields = counted(len(row), "field")
        what = "a comma" if self.sign == "," else f"the sign {self.sign!r}"
        return f"{self.name}: line {line} has {fields}, the header has {len(header)}; quote fields that hold {what}"
