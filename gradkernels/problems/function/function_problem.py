"""A JAX function that gives a loss of each sample, as a Problem.

Shapes, stated once: x and y are arrays, or tuples, named tuples or dicts of arrays, with the samples first;
`losses(params, x, y)` is `(n,)`. Gradients have the structure of params, per-sample gradients with n in front of each
array; what of params is no array of real numbers is part of the function, and None in results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.problems.function import drawing
from gradkernels.problems.function.closure import Closure, code_text
from gradkernels.problems.function.pytree import PytreeLayout
from gradkernels.problems.function.requirements import as_jax_array, require_losses, require_params_fit, require_there
from gradkernels.problems.problem import Problem
from gradkernels.tree import Tree, each, leaves, named

RELATIVE_TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
STRUCTURED_OPTIONS = ("v",)  # that have theta's structure


@dataclass(frozen=True, eq=False)
class FunctionProblem(Problem):
    """The losses of a JAX function, one of each sample.

    Problems of one function, what it computes with and the very same params are equal: make one and keep it, since what
    is proven and compiled is kept with it. Theta is given at each call, or None for params.

    Attributes:
        losses: `losses(params, x, y)`, the loss of each sample `(n,)`; a sample's may depend on no other sample.
        params: Any pytree; its arrays of floats are what is differentiated by.
        example: `(x, y)` to draw from where no data are given: `gradkernels run`, `gk.fastest(..., n=)`.
        by_name: Whether results are dicts of arrays by name, instead of pytrees like params.
    """

    losses: Callable[[Any, Any, Any], Any]
    params: Any
    example: tuple[Tree, Tree] | None = None
    by_name: bool = False

    libraries: ClassVar[tuple[str, ...]] = ("jax",)
    is_black_box: ClassVar[bool] = True

    def __eq__(self, other: object) -> bool:
        """Tell whether both are of the very same function and params."""
        return isinstance(other, FunctionProblem) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __getstate__(self) -> dict[str, Any]:
        """Return what it was made with: what is kept besides is compiled."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __post_init__(self) -> None:
        """Refuse what is no function, params without numbers, and what is no example."""
        if not callable(self.losses):
            raise TypeError(f"losses is a {type(self.losses).__name__}; pass a function losses(params, x, y) -> (n,)")
        _ = self.layout, self.closure
        if self.example is not None:
            x, y = self.example
            object.__setattr__(self, "example", self.prepared(x, y))

    @property
    def _key(self) -> tuple[Any, ...]:
        function = self.losses if isinstance(self.losses, Hashable) else id(self.losses)
        return function, self.layout.identity, self.by_name, id(self.example and self.example[0]), self.closure

    @cached_property
    def closure(self) -> Closure:
        """What the function computed with, besides theta and the data, when the problem was made."""
        return Closure(self.losses, self.layout.constants)

    def renewed(self) -> FunctionProblem:
        """Return the problem, or if what its function computes with has changed, another to build kernels for."""
        return self if self.closure == Closure(self.losses, self.layout.constants) else replace(self)

    @cached_property
    def cache(self) -> dict[Any, Any]:
        """What is built for the problem, as long as it lives."""
        return {}

    @cached_property
    def layout(self) -> PytreeLayout:
        """Names and places of the arrays of params."""
        return PytreeLayout(self.params)

    @cached_property
    def name(self) -> str:
        """`function:losses:1f0c3a9b`: its name, and a fingerprint of its code and of the shapes of params."""
        called = getattr(self.losses, "__name__", type(self.losses).__name__).strip("<>")
        shapes = [(name, tuple(array.shape)) for name, array in named("", self.layout.own)]
        code = code_text(getattr(self.losses, "__code__", None))
        return f"function:{called}:{hashlib.sha256(repr((shapes, code)).encode()).hexdigest()[:8]}"

    def parameters(self) -> Tree:
        """Return the arrays of params that are differentiated by, by name."""
        return self.layout.own

    def named_results(self) -> FunctionProblem:
        """Return the problem whose results are dicts of arrays by name, the same one at each call."""
        if self.by_name:
            return self
        found: FunctionProblem = self.cache.setdefault("named_results", replace(self, by_name=True))
        return found

    def as_inputs(self, theta: Any, x: Any, y: Any) -> tuple[Tree, Tree, Tree]:
        """Return theta flat, that of params where it is None, and x and y as JAX arrays.

        Args:
            theta: A pytree like params, or None.
            x: Inputs, samples first.
            y: Targets, samples first.

        Raises:
            ValueError: Theta is None, and params were donated.
        """
        given = require_there(self.layout.own) if theta is None else self.layout.flat(theta)
        return given, *self.prepared(x, y)

    def prepared(self, x: Any, y: Any) -> tuple[Tree, Tree]:
        """Return x and y as JAX arrays, or trees of them."""
        return tuple(each(lambda one, name=name: as_jax_array(one, name), tree) for name, tree in (("x", x), ("y", y)))

    def restored(self, result: Tree) -> Any:
        """Return a result of theta's structure in that of params."""
        return result if self.by_name else self.layout.nested(result, constants=False)

    def structured(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a call with what has the structure of params flat, as theta is."""
        return {
            name: self.layout.flat(value, name) if name in STRUCTURED_OPTIONS else value
            for name, value in options.items()
        }

    def restricted(self, parameters: Any) -> Problem:
        """Refuse: of which of its parameters a function is, the function says.

        Args:
            parameters: Names or globs.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"parameters={parameters!r} restricts modules; of a JAX function make a FunctionProblem of those alone: "
            "losses=lambda some, x, y: losses({**others, **some}, x, y)"
        )

    def sample_losses(self, theta: Array, x: Tree, y: Tree) -> Array:
        """Compute the loss of each sample of a batch, `(n,)`.

        Args:
            theta: Parameters, flat.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        return self.losses(self.layout.nested(theta, constants=True), x, y)

    def loss(self, theta: Array, x: Tree, y: Tree) -> Array:
        """Compute the loss of ONE sample, given without its axis: a scalar.

        Args:
            theta: Parameters, flat.
            x: Inputs of the sample.
            y: Targets of the sample.
        """
        x, y = each(lambda array: array[None], (x, y))
        return self.sample_losses(theta, x, y)[0]

    def shape(self, features: int) -> Any:
        """Return the shapes of the parameters, by name."""
        return each(lambda array: tuple(array.shape), self.layout.own)

    def size(self, features: int) -> int:
        """Return p, the number of entries of all parameters."""
        return sum(array.size for array in leaves(self.layout.own))

    def features(self, x: Tree) -> int:
        """Count the entries of one sample over all arrays of x."""
        return sum(int(np.prod(array.shape[1:])) for array in leaves(x))

    @property
    def fixed_features(self) -> int | None:
        """Those of the example, if any."""
        return max(1, self.features(self.example[0])) if self.example else None

    def draw(self, n: int, seed: int, features: int = 1) -> Any:
        """Draw parameters near params, and n samples of the example, repeated if it has fewer.

        Args:
            n: Number of samples.
            seed: Of the draw.
            features: Not used: the example has its own.
        """
        if self.example is None:
            raise ValueError(f"{self.name} has no data to draw from; make the FunctionProblem with example=(x, y)")
        return self.draw_theta(features, seed), *drawing.some_samples(self.example, n, seed)

    def draw_theta(self, features: int, seed: int) -> Any:
        """Draw parameters near params, flat, float64."""
        return drawing.drawn_parameters(self.layout.own, seed)

    def cast(self, theta: Tree, x: Tree, y: Tree, dtype: str, order: Any = "C") -> tuple[Any, Any, Any]:
        """Convert the floats of numpy arrays to `dtype`.

        Args:
            theta: Parameters, flat.
            x: Inputs.
            y: Targets.
            dtype: `float64` or `float32`.
            order: Memory order, as numpy takes it.
        """
        cast: tuple[Any, Any, Any] = drawing.cast_floats((theta, x, y), dtype, order)
        return cast

    def floats(self, theta: Tree, x: Tree, y: Tree) -> dict[str, Array]:
        """Return the arrays of theta alone: x and y are whatever the function takes.

        Args:
            theta: Parameters, flat.
            x: Inputs.
            y: Targets.
        """
        return dict(named("theta", theta))

    def validate(self, theta: Tree, x: Tree, y: Tree) -> None:
        """Raise unless theta has the shapes of params and one dtype, and there is a loss of each sample.

        Args:
            theta: Parameters, flat.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        require_params_fit(theta, self.layout.own, x, y)
        require_losses(self.sample_losses, theta, x, y)

    def tolerance(self, dtype: str, terms: int) -> float:
        """Return the error allowed, relative to a row's norm: a network rounds otherwise than an inner product."""
        return RELATIVE_TOLERANCES[dtype]
