"""The options of a table of data together, and the data set that they mean."""

from __future__ import annotations

from dataclasses import dataclass

from gradkernels.problems import Problem
from gradkernels.problems.data.datasets import Dataset, load_dataset
from gradkernels.problems.data.selection import column_names


@dataclass(frozen=True)
class DataOptions:
    """The options `--data`, `--target`, `--drop-na`, `--resample`, `--features-from`, `--ignore` and `--sep`."""

    data: str | None = None
    target: str | None = None
    drop_na: bool = False
    resample: bool = False
    features_from: str | None = None
    ignore: str | None = None
    sep: str | None = None

    def load(self, problem: Problem) -> Dataset | None:
        """Return the data set for a problem; None if there is none, and nothing that would be about one.

        Raises:
            ValueError: It cannot be read as the options say, or an option is about a file that is not named.
            OSError: The file cannot be read.
        """
        if self.data is None:
            self._require_nothing()
            return None
        return self._read(self.data, problem)

    def required(self, problem: Problem) -> Dataset:
        """Return the data set where there has to be one; see `load`."""
        assert self.data is not None
        return self._read(self.data, problem)

    def _read(self, data: str, problem: Problem) -> Dataset:
        return load_dataset(
            data,
            self.target,
            self.drop_na,
            features=column_names(self.features_from),
            ignore=column_names(self.ignore),
            sep=self.sep,
            problem=problem,
        )

    def _require_nothing(self) -> None:
        given = {
            "--target": self.target,
            "--features-from": self.features_from,
            "--ignore": self.ignore,
            "--sep": self.sep,
            "--drop-na": self.drop_na,
            "--resample": self.resample,
        }
        for name, value in given.items():
            if value not in (None, False):
                raise ValueError(f"{name} was given without --data; name the file that it is about")
