"""A table as it was read from a file, and the way from there to finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from gradkernels.names import unknown

Values = np.ndarray[Any, Any]
REFUSED_KINDS = {"M": "dates", "m": "durations", "c": "complex numbers"}


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a file; refuses those without a name, without rows and with another's name.

    Attributes:
        name: The file's name, for messages.
        names: Name of each column, in the file's order.
        values: Values of each column, `(n,)` each, of any dtype.
        place: Row index, counted from 0, to what a person calls it: `row 3 (line 4)`.
        target: The column to predict if the caller names none.
    """

    name: str
    names: tuple[str, ...]
    values: tuple[Values, ...]
    place: Callable[[int], str]
    target: str | None = None

    def __post_init__(self) -> None:
        """Refuse what has no use, whatever will be asked of it."""
        for position, name in enumerate(self.names):
            if not name:
                hint = "name it or leave it out (a pandas index: to_csv(index=False))"
                raise ValueError(f"{self.name}: column {position + 1} has no name; {hint}")
            if self.names.index(name) != position:
                raise ValueError(f"{self.name}: two columns are called {name!r}; rename one of them")
        if not any(len(values) for values in self.values):
            raise ValueError(f"{self.name} has no rows, only the columns {_some(self.names, 'and')}")

    @property
    def rows(self) -> int:
        """n, the number of rows."""
        return len(self.values[0])

    def only(self, positions: Sequence[int]) -> Table:
        """Return the table with these columns alone."""
        names = tuple(self.names[place] for place in positions)
        return replace(self, names=names, values=tuple(self.values[place] for place in positions))

    def with_column(self, position: int, values: Values) -> Table:
        """Return the table with other values in one column."""
        return replace(self, values=(*self.values[:position], values, *self.values[position + 1 :]))

    def class_names(self, position: int) -> list[str | None] | None:
        """Return the cells of a column of names, None for those that are empty; None for a column of anything else."""
        values = self.values[position]
        if values.dtype.kind not in "OUS":
            return None
        cells = [None if _is_missing(value) else value for value in values.tolist()]
        if not all(isinstance(cell, str | bool | int | float | None) for cell in cells) or _all_numbers(cells):
            return None
        return [None if cell is None else str(cell).strip() for cell in cells]

    def target_position(self, target: str | None) -> int:
        """Find the column to predict; a ValueError that lists the columns or near names otherwise."""
        if len(self.names) < 2:
            hint = "a target and at least one feature are needed, separated by commas in CSV"
            raise ValueError(f"{self.name} has only the column {self.names[0]!r}; {hint} or by what --sep (sep=) says")
        target = self.target if target is None else target
        if target is None:
            columns = _some(self.names, "or")
            raise ValueError(f"{self.name}: which column is to be predicted? Pass --target (target=) {columns}")
        if target not in self.names:
            raise ValueError(f"{self.name}: {unknown('column', target, self.names)}")
        return self.names.index(target)

    def numbers(self, drop_na: bool) -> Values:
        """Return the columns side by side, float64 `(n, columns)`, all finite.

        Args:
            drop_na: Leave out rows with missing or infinite values.

        Raises:
            ValueError: Something is not a finite number; names the column and the row.
        """
        values = np.stack([self._column(position) for position in range(len(self.names))], axis=1)
        finite = np.isfinite(values)
        whole = finite.all(axis=1)
        if whole.all():
            return values
        if not drop_na:
            raise ValueError(self._first_gap(values, finite))
        if not whole.any():
            raise ValueError(f"{self.name}: every row ({len(whole)}) has a missing or infinite value; none is left")
        return values[whole]

    def _column(self, position: int) -> Values:
        values, name = self.values[position], self.names[position]
        if values.dtype.kind in "biuf":
            return values.astype(np.float64)
        if values.dtype.kind not in "OUS":
            kind = REFUSED_KINDS.get(values.dtype.kind, str(values.dtype))
            fault = f"{self.name}: column {name!r} holds {kind}"
            raise ValueError(f"{fault}; turn it into numbers or leave it out with --ignore (ignore=)")
        column = np.empty(len(values))
        for row, value in enumerate(values.tolist()):
            try:
                column[row] = _number(value)
            except ValueError:
                where = f"{self.name}: column {name!r} is {_short(value)} in {self.place(row)}"
                hint = "correct it, or leave the column out with --ignore (ignore=)"
                raise ValueError(f"{where}, not a number; {hint}") from None
        return column

    def _first_gap(self, values: Values, finite: Values) -> str:
        whole = finite.all(axis=1)
        row = int(np.argmin(whole))
        column = int(np.argmin(finite[row]))
        what = "has no value" if np.isnan(values[row, column]) else f"is {values[row, column]}"
        others = int((~whole).sum()) - 1
        more = f" (and {others} more {'row is' if others == 1 else 'rows are'} like it)" if others else ""
        return (
            f"{self.name}: column {self.names[column]!r} {what} in {self.place(row)}{more}; "
            "correct it, or leave such rows out with --drop-na (drop_na=True)"
        )


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or (isinstance(value, str) and not value)


def _all_numbers(cells: Sequence[object]) -> bool:
    try:
        return all(cell is None or np.isfinite(_number(cell)) for cell in cells)
    except ValueError:
        return False


def _number(value: object) -> float:
    """Convert a cell of a column that is not all numbers; raise a ValueError if this cell is none either."""
    if value is None:
        return np.nan
    # Python alone reads 1_000 as a number.
    if not isinstance(value, bool | int | float | Decimal | str) or (isinstance(value, str) and "_" in value):
        raise ValueError
    try:
        return float(value)
    except OverflowError:  # an integer beyond the floats
        return np.inf


def _some(names: Sequence[str], last: str, most: int = 20) -> str:
    """Return `a, b or c`, cut short if there are many."""
    if len(names) > most:
        return f"{', '.join(names[:most])} {last} {len(names) - most} more"
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."
