"""The coordinates of a case, in names and numbers: what tells apart the rows of results, and what each may be.

The names stand here without what they name, so that the help of a command can list them and load none of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

REGRESSION_NAMES = ("linear", "logistic", "poisson", "huber", "softmax")
"""Of `gradkernels.problems.REGRESSIONS`."""

QUANTITY_NAMES = (
    *("gradient", "per_sample", "norms", "moments", "clipped_sum", "weighted_sum", "group_sums", "inner", "gram"),
    *("project", "outer", "norms_by", "clipped_sum_by", "gram_by", "jacobian"),
)
"""Of `gradkernels.quantity.QUANTITIES`, in their order."""

DATA_SETS = ("notebook", "diabetes", "breast_cancer", "digits")
"""Of `gradkernels.problems.data.datasets.BUNDLED`."""

FLOATS = ("float64", "float32")
"""Dtypes that every library computes in."""

LAYOUTS = ("C", "F")
DEVICES = ("cpu", "cuda")

ALL_SIZES = 0
"""In place of n: the coordinates are those of a curve over n."""

USUAL: dict[str, str | int] = {"features": 1, "dtype": "float64", "layout": "C", "device": "cpu", "threads": 1}
"""Coordinates that go without saying."""


@dataclass(frozen=True, order=True)
class Coordinates:
    """What must be equal for two times to be times of the same work by the same means.

    Attributes:
        problem: Name of the problem: `linear`, or `linear/diabetes` on a data set.
        quantity: Name of the quantity.
        n: Number of samples, or ALL_SIZES.
        features: d, the number of columns of x.
        dtype: Of inputs and result.
        layout: Memory order of x: `C` or `F`.
        device: Where it is computed.
        threads: Threads that each kernel could use.
    """

    problem: str
    quantity: str
    n: int
    features: int
    dtype: str
    layout: str
    device: str
    threads: int

    def at(self, n: int) -> Coordinates:
        """Return the same coordinates at another number of samples, or at ALL_SIZES."""
        return replace(self, n=n)

    def unusual(self) -> dict[str, str | int]:
        """Return the coordinates that do not go without saying, by name."""
        return {name: value for name, usual in USUAL.items() if (value := vars(self)[name]) != usual}

    def described(self, between: str) -> str:
        """Return them in words, `problem=linear, quantity=norms, ...`, with `between` each name and its value."""
        return ", ".join(f"{name}{between}{value}" for name, value in vars(self).items())
