"""Data to differentiate on: bundled sets and a person's own files, checked cell by cell.

Nothing is guessed, repeated or left out silently: whatever is not a finite number is named by column and row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradkernels.names import counted, unknown
from gradkernels.problems.data.files import KINDS_OF_FILE, read_table
from gradkernels.problems.data.labels import classes_of, numbered_from_zero, numbered_labels, numbered_names
from gradkernels.problems.data.optional import needs
from gradkernels.problems.data.selection import ColumnChoice
from gradkernels.problems.data.table import Table
from gradkernels.problems.problem import Problem
from gradkernels.problems.regression.weighted import Weighted
from gradkernels.tree import Tree
from gradkernels.truth import Floats

NOTEBOOK_SEED = 45


@dataclass(frozen=True, eq=False)
class Dataset:
    """Features and a target, all of them finite numbers.

    Attributes:
        name: Name of the bundled set, or of the file.
        x: Features, float64, `(n, d)`, or `(n,)` for one.
        y: Target, float64, `(n,)`.
        columns: Name of each feature, in the order of x.
        weight: Sample weights, `(n,)`; None where there are none.
        notes: What a reader should know of how the file was read: rows that were left out, numbers of classes.
    """

    name: str
    x: Floats
    y: Floats
    columns: tuple[str, ...]
    weight: Floats | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """n, the number of rows."""
        return len(self.y)

    @property
    def features(self) -> int:
        """d, the number of columns of x."""
        return len(self.columns)

    def draw(self, n: int, seed: int, resample: bool = False) -> tuple[Floats, Tree]:
        """Copy n rows: all of them in order, or a random subset, the same for the same arguments.

        Args:
            n: Number of rows, at least 1.
            seed: Of the random choice, at least 0.
            resample: Allow n beyond the size, by drawing with replacement (the bootstrap: Efron 1979).

        Returns:
            x `(n, d)`, or `(n,)` for one feature, and y `(n,)`, `Weighted` where there are weights.

        Raises:
            ValueError: n is below 1, or beyond the size without `resample`.
        """
        if n < 1:
            raise ValueError(f"{counted(n, 'row')} of {self.name} were asked for; at least 1 is needed")
        if n > self.size and not resample:
            raise ValueError(
                f"{self.name} has {counted(self.size, 'row')}, {n} were asked for; "
                f"ask for at most {self.size}, or draw with replacement by --resample (resample=True)"
            )
        rows = self._rows(n, np.random.default_rng(seed))
        y = self.y[rows]
        return self.x[rows], y if self.weight is None else Weighted(y, self.weight[rows])

    def _rows(self, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        if n == self.size:
            return np.arange(n)
        return rng.choice(self.size, n, replace=n > self.size)


def load_dataset(
    source: str,
    target: str | None = None,
    drop_na: bool = False,
    *,
    features: Sequence[str] = (),
    ignore: Sequence[str] = (),
    sep: str | None = None,
    problem: Problem | None = None,
) -> Dataset:
    """Load a bundled data set by name, or the numbers in a file.

    Args:
        source: `notebook`, `diabetes`, or the path of a file: CSV or TSV in UTF-8 with the column names in its first
            line, also compressed by gzip, Parquet, Feather, an Excel workbook of one sheet, or an NPZ of arrays `(n,)`
            or `(n, d)`.
        target: The column to predict; all others are features. For NPZ it names an array, and may be left out
            if the arrays are called x and y. Bundled sets have their own.
        drop_na: Leave out rows with missing or infinite values instead of refusing them; of files alone.
        features: Names or globs of the columns that are features, in their order; none for all.
        ignore: Names or globs of columns that are not.
        sep: The sign between columns of text, where it is another than the extension says.
        problem: What the target is for: of one that tells classes apart it may be names, or numbers from 1 on.

    Raises:
        ValueError: Anything that is not a table of finite numbers; one sentence names the column and the row.
        OSError: The file is not there or cannot be read.
    """
    if source in BUNDLED:
        if target is not None:
            raise ValueError(f"data set {source!r} has its own target; leave out --target {target} (target=)")
        if features or ignore or sep is not None:
            raise ValueError(f"data set {source!r} has its own columns; leave out --features-from, --ignore and --sep")
        if drop_na:
            raise ValueError(f"data set {source!r} has no missing values; leave out --drop-na (drop_na=)")
        return BUNDLED[source]()
    choice = ColumnChoice(target, tuple(features), tuple(ignore))
    return _dataset(read_table(_file(source), sep), choice, drop_na, None if problem is None else classes_of(problem))


def _file(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.suffix and not path.exists():
        raise ValueError(unknown("data set", source, [*BUNDLED, f"a file ending in {' or '.join(KINDS_OF_FILE)}"]))
    return path


def notebook() -> Dataset:
    """Draw the 40 points of the coursework: y = 3 x + 4 + standard normal noise, x uniform in [-1, 1)."""
    random = np.random.RandomState(NOTEBOOK_SEED)  # the coursework's generator
    x = random.uniform(-1, 1, 40)
    return Dataset("notebook", x, 3 * x + 4 + random.randn(40), ("x",))


def notebook_points() -> dict[str, Floats]:
    """Draw the coursework's two parameter points `(theta_0, theta_1)`, float32 values as float64.

    The first is drawn by torch, the second by numpy, each from a generator seeded with 45 for itself.
    """
    import torch

    generator = torch.Generator().manual_seed(NOTEBOOK_SEED)
    by_torch = [draw(1, generator=generator, dtype=torch.float32).item() for draw in (torch.rand, torch.randn)]
    random = np.random.RandomState(NOTEBOOK_SEED)
    by_numpy = [np.float32(draw(1)[0]) for draw in (random.rand, random.randn)]
    return {"point 1": np.array(by_torch), "point 2": np.array(by_numpy, np.float64)}


def diabetes() -> Dataset:
    """Load 442 patients: 10 measurements scaled as scikit-learn does, and disease progression after a year.

    Source: Efron, Hastie, Johnstone & Tibshirani 2004, Least Angle Regression, Annals of Statistics 32(2).
    """
    bunch = needs("sklearn.datasets", "scikit-learn", "the data set 'diabetes'").load_diabetes()
    return Dataset("diabetes", bunch.data, bunch.target, tuple(bunch.feature_names))


def breast_cancer() -> Dataset:
    """Load 569 tumours: 30 measurements of cell nuclei, standardised; target 0 malignant, 1 benign.

    Source: Street, Wolberg & Mangasarian 1993, Nuclear feature extraction for breast tumor diagnosis.
    """
    bunch = needs("sklearn.datasets", "scikit-learn", "the data set 'breast_cancer'").load_breast_cancer()
    x = (bunch.data - bunch.data.mean(0)) / bunch.data.std(0)
    return Dataset("breast_cancer", x, bunch.target.astype(float), tuple(map(str, bunch.feature_names)))


def digits() -> Dataset:
    """Load 1797 handwritten digits of 8 x 8 pixels, grey values scaled to [0, 1]; target 0 to 9.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
    """
    bunch = needs("sklearn.datasets", "scikit-learn", "the data set 'digits'").load_digits()
    return Dataset("digits", bunch.data / 16, bunch.target.astype(float), tuple(bunch.feature_names))


BUNDLED: dict[str, Callable[[], Dataset]] = {
    "notebook": notebook,
    "diabetes": diabetes,
    "breast_cancer": breast_cancer,
    "digits": digits,
}
"""Data sets by the name that `--data` takes."""


def _dataset(table: Table, choice: ColumnChoice, drop_na: bool, classes: int | None) -> Dataset:
    """Return the columns that are chosen as numbers; all of them are checked here, once.

    Args:
        table: As it was read.
        choice: Of columns.
        drop_na: Whether rows with missing or infinite values are left out.
        classes: Of the problem; None where the target is no class.
    """
    position = table.target_position(choice.target)
    features = choice.columns(table.name, table.names, position)
    target = table.names[position]
    labels: dict[str, int] = {}
    if classes is not None and (names := table.class_names(position)) is not None:
        numbers, labels = numbered_names(names, classes, f"{table.name}: column {target!r}")
        table = table.with_column(position, numbers)
    used = sorted([*features, position])
    values = table.only(used).numbers(drop_na)
    columns = [values[:, used.index(place)] for place in features]
    x = columns[0].copy() if len(columns) == 1 else np.ascontiguousarray(np.stack(columns, axis=1))
    y = values[:, used.index(position)].copy()
    if classes is not None and not labels:
        y, labels = numbered_from_zero(y, classes)
    notes = [numbered_labels(table.name, target, labels)] if labels else []
    if left_out := table.rows - len(y):
        of = counted(table.rows, "row")
        notes.insert(0, f"{table.name}: left out {left_out:,} of {of}, where a value is missing or infinite")
    return Dataset(table.name, x, y, tuple(table.names[place] for place in features), None, tuple(notes))


def require_range(data: Dataset, dtypes: Iterable[str]) -> None:
    """Raise a ValueError for numbers whose squares leave a dtype: of their gradients nothing could be proven.

    Args:
        data: Features and target.
        dtypes: Names of those in which it is computed.
    """
    columns = {f"column {name!r}": data.x.reshape(len(data.x), -1)[:, i] for i, name in enumerate(data.columns)}
    largest = {
        name: float(np.abs(values).max(initial=0.0)) for name, values in {**columns, "the target": data.y}.items()
    }
    for dtype in dtypes:
        for name, value in largest.items():
            if value > float(np.finfo(dtype).max) ** 0.5:
                raise ValueError(
                    f"{data.name}: {name} has numbers up to {value:.3g}, whose squares leave {dtype}; rescale it"
                )
