"""The coordinates of one computation, and its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradkernels.backend import FLOATS
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity, pick, quantity

Inputs = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]
LAYOUTS = {"C": "C", "F": "F"}


@dataclass(frozen=True)
class Case:
    """Where a kernel is proven and timed.

    Attributes:
        problem: What is differentiated.
        quantity: What is asked of the per-sample gradients; a name is turned into its `Quantity`.
        n: Number of samples, at least 1.
        dtype: Of inputs and result: `float64` or `float32`.
        device: `cpu`, or `cuda` for torch kernels.
        threads: Threads that a kernel may use.
        layout: Memory order of x: `C` (rows together) or `F` (columns together).
        seed: Of the draw of theta, x and y.
        features: d, the number of columns of x; x is `(n,)` for one.
    """

    problem: Problem
    quantity: Quantity
    n: int
    dtype: str = "float64"
    device: str = "cpu"
    threads: int = 1
    layout: str = "C"
    seed: int = 0
    features: int = 1

    def __post_init__(self) -> None:
        """Refuse coordinates that no kernel could have."""
        object.__setattr__(self, "quantity", quantity(self.quantity))
        pick(dict.fromkeys(FLOATS), self.dtype, "dtype")
        pick(LAYOUTS, self.layout, "layout")
        for name in ("n", "threads", "features"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    @property
    def parameters(self) -> int:
        """p, the number of entries of theta."""
        return int(np.prod(self.problem.shape(self.features)))

    def draw(self) -> Inputs:
        """Theta, x and y of this case as numpy arrays in its dtype and layout, the same at every call."""
        return self.cast(self.problem.draw(self.n, self.seed, self.features))

    def cast(self, inputs: Inputs) -> Inputs:
        """`inputs` in this case's dtype and layout."""
        theta, x, y = (np.asarray(array, self.dtype) for array in inputs)
        return theta, np.asarray(x, order="F" if self.layout == "F" else "C"), y

    def fresh(self) -> Case:
        """The same case with other data."""
        return replace(self, seed=self.seed + 1)
