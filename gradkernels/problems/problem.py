"""What every Problem offers: the noun, and nothing of any particular loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from gradkernels.backend import FLOATS, Array
from gradkernels.problems.frames import without_frames
from gradkernels.tree import Tree, each, leaves, named
from gradkernels.truth import Floats as Floats

LAMBDA = 8.0


class Problem(ABC):
    """A per-sample loss of parameters `theta`, features `x` and target `y`, and data to draw.

    Subclasses are frozen dataclasses: equal problems compare and hash equal, so that a kernel built
    once for a problem can be found again. Throughout, n is the number of samples, d of features and
    p of parameters.

    Attributes:
        integer_target: Whether targets are class numbers, int64, instead of numbers of the case's dtype.
        libraries: Names of the libraries whose arrays it is written for; none for all.
        dtypes: Dtypes that theta may have.
        is_black_box: Whether nothing is known about what it computes but that it does: kernels are then proven on the
            caller's own data, one that fails is set aside, and without measurements their `rank` decides.
        randomness: Whether the loss draws random numbers: `error`, it does not; `same` for every sample, or
            `different`.
    """

    integer_target: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = FLOATS
    is_black_box: ClassVar[bool] = False
    randomness: str = "error"

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in keys, tables and CSV; tells problems of different structure apart."""

    @abstractmethod
    def loss(self, theta: Array, x: Array, y: Tree) -> Array:
        """Compute the unscaled loss of each sample, `(n,)`; one sample without its axis gives a scalar.

        Written with functions that numpy, torch and JAX share (see `gradkernels.elementwise.namespace`), so that
        each of them can differentiate it.

        Args:
            theta: Parameters.
            x: Features, with or without the axis of samples.
            y: Targets, likewise.
        """

    @abstractmethod
    def shape(self, features: int) -> tuple[int, ...]:
        """Return the shape of `theta` for `features` features."""

    @abstractmethod
    def draw(self, n: int, seed: int, features: int = 1) -> tuple[Floats, Floats, Tree]:
        """Draw synthetic float64 `(theta, x, y)`, the same for the same arguments.

        Args:
            n: Number of samples.
            seed: Of the draw.
            features: d, the number of columns of x; x is `(n,)` for one.
        """

    @abstractmethod
    def draw_theta(self, features: int, seed: int) -> Floats:
        """Draw parameters to differentiate at, float64: a point away from the optimum."""

    @abstractmethod
    def validate(self, theta: Array, x: Array, y: Tree) -> None:
        """Raise a ValueError that names the shapes given and allowed if they do not fit together.

        Args:
            theta: Parameters.
            x: Features.
            y: Targets.
        """

    def targets(self, y: Tree, seed: int) -> Tree:
        """Make the `y` of a data set's target column `(n,)`; a ValueError if this loss is not defined there."""
        return y

    def size(self, features: int) -> int:
        """Return p, the number of entries of theta."""
        return math.prod(self.shape(features))

    def features(self, x: Tree) -> int:
        """Return d, the number of entries of one sample of x."""
        return int(x.shape[1]) if x.ndim > 1 else 1

    def sample_losses(self, theta: Array, x: Tree, y: Tree) -> Array:
        """Compute the loss of each sample of a batch, `(n,)`.

        Args:
            theta: Parameters.
            x: Features of n samples.
            y: Targets.
        """
        return self.loss(theta, x, y)

    @property
    def is_of_outputs(self) -> bool:
        """Whether it is of a model's outputs, which its targets choose, and has no loss of its own."""
        return False

    def of_outputs(self, of: Any = None) -> Problem:
        """Return the problem of the outputs alone, which a Jacobian is of.

        Args:
            of: `of(output)`, the tensor that is meant in the output; None for the output itself.

        Raises:
            TypeError: It has none that are known: only a module does.
        """
        raise TypeError(
            f"a Jacobian is of the outputs of a torch module, and a {type(self).__name__} is losses alone; pass "
            "gk.ModuleProblem(model)"
        )

    def named_results(self) -> Problem:
        """Return the problem whose results are arrays, or dicts of them by name, whatever structure a caller's have."""
        return self

    def seeded(self) -> AbstractContextManager[None]:
        """Return a context in which the loss draws the same random numbers every time, where it draws any."""
        return nullcontext()

    def with_parameters(self, theta: Array) -> AbstractContextManager[None]:
        """Return a context in which whatever computes the loss has `theta` for its parameters."""
        return nullcontext()

    def as_inputs(self, theta: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        """Return the arrays of one call as kernels take them; those in DataFrames and Series are numpy arrays.

        Args:
            theta: Parameters; None for those of the problem itself.
            x: Features.
            y: Targets.

        Raises:
            TypeError: Theta is None, and the problem has no parameters of its own.
        """
        if theta is None:
            raise TypeError(f"theta is None; {self.name} has no parameters of its own, pass them")
        return without_frames(theta, x, y)

    def restricted(self, parameters: Any) -> Problem:
        """Return the problem of some parameters alone, where parameters have names.

        Args:
            parameters: Names or globs, or one of them.

        Raises:
            TypeError: They have none.
        """
        raise TypeError(
            f"parameters={parameters!r} names parameters of a module; theta of {self.name} is one array, whose entries "
            "have no names: take what you need of the result"
        )

    def for_proof(self, dtype: str, device: str) -> Problem:
        """Return the problem to prove kernels on in its place, where theta has `dtype` and lies on `device`."""
        return self

    def floats(self, theta: Tree, x: Tree, y: Tree) -> dict[str, Array]:
        """Return the arrays that must have one float dtype, by name.

        Args:
            theta: Parameters.
            x: Features.
            y: Targets.
        """
        classes = leaves(y)[0] if self.integer_target else None
        parts = (("theta", theta), ("x", x), ("y", y))
        return {name: array for part in parts for name, array in named(*part) if array is not classes}

    def cast(self, theta: Tree, x: Tree, y: Tree, dtype: str, order: Any = "C") -> tuple[Any, Any, Any]:
        """Convert numpy arrays to one dtype, class numbers to int64.

        Args:
            theta: Parameters.
            x: Features.
            y: Targets.
            dtype: `float64` or `float32`.
            order: Memory order of x: `C`, `F`, or `K` for the one it has.
        """
        classes = leaves(y)[0] if self.integer_target else None
        y = each(lambda array: np.asarray(array, np.int64 if array is classes else dtype), y)
        return np.asarray(theta, dtype), np.asarray(x, dtype, order=order), y

    def tolerance(self, dtype: str, terms: int) -> float:
        """Return the error allowed in units of the rounding scale, where `terms` roundings add up.

        See `gradkernels.check.prove`.
        """
        return LAMBDA * terms**0.5 * float(np.finfo(dtype).eps) / 2
