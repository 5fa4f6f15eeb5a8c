"""Which columns of a table are features: all but the target, those that are named, or all but those that are named."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gradkernels.names import unknown


@dataclass(frozen=True)
class ColumnChoice:
    """What a person says of the columns of a table.

    Attributes:
        target: The one to predict; None for that of the file, where it says so.
        features: Names or globs of the features; none for all columns but the target.
        ignored: Names or globs of columns that are neither.
    """

    target: str | None = None
    features: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def columns(self, name: str, names: Sequence[str], target: int) -> list[int]:
        """Return the positions of the features among the columns of a table.

        Args:
            name: Of the table, for messages.
            names: Of its columns.
            target: Position of the target.

        Raises:
            ValueError: A name means no column or the target, or no feature is left.
        """
        features = self._meant(name, names, target, "--features-from", self.features)
        ignored = self._meant(name, names, target, "--ignore", self.ignored)
        chosen = features if self.features else [place for place in range(len(names)) if place != target]
        left = [place for place in chosen if place not in ignored]
        if not left:
            raise ValueError(f"{name}: --ignore (ignore=) leaves no feature beside the target {names[target]!r}")
        return left

    def _meant(self, name: str, names: Sequence[str], target: int, option: str, patterns: Sequence[str]) -> list[int]:
        found: list[int] = []
        for pattern in patterns:
            exact = [place for place, one in enumerate(names) if one == pattern]
            meant = exact or [place for place, one in enumerate(names) if place != target and fnmatchcase(one, pattern)]
            if not meant:
                raise ValueError(f"{name}: {option} {pattern}: {unknown('column', pattern, names)}")
            if target in meant:
                raise ValueError(f"{name}: {option} {pattern}: that is the target; name a column beside it")
            found += [place for place in meant if place not in found]
        return found


def column_names(text: str | None) -> tuple[str, ...]:
    """Return the names of columns in `a,b,"c, d"`."""
    return () if text is None else tuple(part.strip() for part in next(csv.reader([text], skipinitialspace=True), []))
