"""The coordinates of one computation, and its inputs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from gradkernels.backend import FLOATS
from gradkernels.coordinates import DEVICES, LAYOUTS, Coordinates
from gradkernels.names import pick
from gradkernels.problems import ExampleProblem, Problem
from gradkernels.quantity import Quantity, quantity
from gradkernels.tree import Tree, count
from gradkernels.validate import dtype_of, validate_problem

Inputs = tuple[Tree, Tree, Tree]


@dataclass(frozen=True, repr=False)
class Case:
    """Where a kernel is proven and timed.

    Attributes:
        problem: What is differentiated.
        quantity: What is asked of the per-sample gradients; a name is turned into its `Quantity`.
        n: Number of samples, at least 1.
        dtype: Of inputs and result, for modules of theta and result: `float64` or `float32`; for modules `bfloat16`
            or `float16` too.
        device: `cpu`, or `cuda` for torch kernels.
        threads: Threads that a kernel may use.
        layout: Memory order of x: `C` (rows together) or `F` (columns together).
        seed: Of the draw of theta, x and y.
        features: d, the number of columns of x; x is `(n,)` for one. A module with an example has its entries of
            one sample.
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
        validate_problem(self.problem)
        object.__setattr__(self, "quantity", quantity(self.quantity))
        device = str(self.device)
        object.__setattr__(self, "device", "cpu" if device.startswith("cpu:") else device)  # there is one
        pick(dict.fromkeys(self.problem.dtypes), self.dtype, "dtype")
        pick(dict.fromkeys(LAYOUTS), self.layout, "layout")
        pick(dict.fromkeys(DEVICES), self.device.partition(":")[0], "device")
        if isinstance(self.problem, ExampleProblem) and (features := self.problem.fixed_features) is not None:
            object.__setattr__(self, "features", features)
        for name in ("n", "threads", "features"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")

    def __repr__(self) -> str:
        """Return what is not as by default: `Case(LinearRegression(...), 'norms', 9, dtype='float32')`."""
        unusual = [f"{one.name}={value!r}" for one in fields(self) if (value := getattr(self, one.name)) != one.default]
        return f"Case({self.problem!r}, {self.quantity.name!r}, {', '.join([str(self.n), *unusual[3:]])})"

    @property
    def parameters(self) -> int:
        """p, the number of entries of theta."""
        return self.problem.size(self.features)

    @property
    def coordinates(self) -> Coordinates:
        """Names and numbers of this case, as the rows of results have them."""
        return Coordinates(
            problem=self.problem.name,
            quantity=self.quantity.name,
            n=self.n,
            features=self.features,
            dtype=self.dtype,
            layout=self.layout,
            device=self.device,
            threads=self.threads,
        )

    def draw(self) -> Inputs:
        """Draw theta, x and y of this case as numpy arrays in its dtype and layout, the same at every call."""
        return self.cast(self.problem.draw(self.n, self.seed, self.features))

    def cast(self, inputs: Inputs) -> Inputs:
        """Convert `inputs` to this case's dtype and layout; class numbers to int64."""
        return self.problem.cast(*inputs, self.dtype, self.layout)

    def require(self, inputs: Inputs) -> None:
        """Raise a ValueError unless `inputs` have this case's n, features and dtype."""
        theta, x, y = inputs
        self.problem.validate(theta, x, y)
        features = self.features if isinstance(self.problem, ExampleProblem) else self.problem.features(x)
        dtypes = {dtype_of(array) for array in self.problem.floats(theta, x, y).values()}
        if (count(y), features, dtypes) != (self.n, self.features, {self.dtype}):
            given = f"n={count(y)}, features={features}, {' and '.join(sorted(dtypes))}"
            raise ValueError(
                f"the inputs have {given}, the case n={self.n}, features={self.features}, {self.dtype}; "
                "make them equal, with Case.cast for the dtype"
            )

    def for_proof(self) -> Case:
        """Return the case that is proven in its place: of modules one in a dtype that numpy has, with such a model."""
        problem = self.problem.for_proof(self.dtype, self.device)
        dtype = self.dtype if self.dtype in FLOATS else "float32"
        return self if problem is self.problem else replace(self, problem=problem, dtype=dtype)

    def fresh(self) -> Case:
        """Return the same case with other data."""
        return replace(self, seed=self.seed + 1)
