"""What is asked of the per-sample gradients g: the noun; each is defined in a file of `gradkernels.quantities`.

g is an array `(n, *theta.shape)`, or a dict of such arrays, one per parameter. A quantity is defined twice in its file:
`of(xp, g)` with operations that numpy, torch and `jax.numpy` share, which every kernel of rows computes it by, and
`expect(truth)`, what results are held against, in float64 and by another formula.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from gradkernels.names import pick
from gradkernels.tree import Tree, each
from gradkernels.truth import Floats as Floats
from gradkernels.truth import Truth as Truth
from gradkernels.truth import flat as flat

Shape = tuple[int, ...]
T = TypeVar("T")


class Moments(NamedTuple, Generic[T]):
    """Mean and biased variance (divided by n) of the per-sample gradients, each of theta's shape."""

    mean: T
    variance: T


class Draw(NamedTuple):
    """What options are made for, where a proof or a measurement makes them.

    Attributes:
        n: Number of samples.
        theta: Parameters: an array, or a dict of them; shapes count.
        seed: Of what is drawn.
        norms: Lengths of some samples' gradients, where they are known.
        batch: `(x, y)`, the samples, where they are at hand.
    """

    n: int
    theta: Tree
    seed: int = 0
    norms: Any = ()
    batch: Any = None

    @property
    def rng(self) -> np.random.Generator:
        """A generator that starts afresh."""
        return np.random.default_rng(self.seed)

    def like_theta(self, *leading: int) -> Tree:
        """Draw standard normals of theta's structure, with axes before each array's own."""
        rng = self.rng
        return each(lambda part: rng.standard_normal((*leading, *part.shape)), self.theta)


Options = dict[str, Any]
"""What a kernel is given besides theta, x and y, by name."""


def _none_needed(draw: Draw) -> Options:
    return {}


def _no_bytes(theta: Tree, **options: Any) -> int:
    return 0


def _none_more(draw: Draw) -> Iterator[tuple[str, Options]]:
    return iter(())


@dataclass(frozen=True, eq=False)
class Option:
    """A keyword argument of a quantity.

    Attributes:
        name: Of the argument.
        checked: `checked(value, n, theta)` returns the value as kernels take it, or raises a sentence.
        required: Whether there is no result without it.
        by_sample: Whether its first axis is the samples'.
        batch: Whether it is `(x, y)`, other samples, of which the definition takes the rows.
        fixed: Whether its value decides shapes or code, so that what is compiled is compiled for it.
        of_some: `of_some(value, samples)`, what becomes of the value for some of the samples, after it is cut to them
            where it has their axis.
    """

    name: str
    checked: Callable[[Any, int, Tree], Any]
    required: bool = False
    by_sample: bool = False
    batch: bool = False
    fixed: bool = False
    of_some: Callable[[Any, Any], Any] = lambda value, samples: value


@dataclass(frozen=True, repr=False)
class Quantity:
    """One thing asked of the per-sample gradients.

    Attributes:
        name: The public function and the last part of a kernel's key.
        shape: `shape(n, theta, **options)`, the shape of each array in the result: of one for the parameter whose
            shape theta is, or where the result has not theta's structure of one for the whole theta.
        of: `of(xp, g, **options)`, the definition.
        expect: `expect(truth, **options)`, value and scale of each entry by a formula of its own, float64.
        averages: Whether it divides by n, so that n = 0 has no answer.
        writable: Whether it takes `out=`.
        options: Keyword arguments that its kernels take besides `out`.
        per_parameter: Whether its result has theta's structure: a dict where theta is one.
        structure: `structure(n, theta, **options)`, blanks of a result that is neither one array nor like theta.
        agree: `agree(options)` raises a ValueError where checked options do not fit together.
        needs: `needs(draw)`, options without which there is no result, as proofs and measurements draw them.
        settings: `settings(draw)`, further options that it is proven with, each with what a message says of them.
        by_sample: Whether its result has a part for each sample, and not their sum or mean.
        sample_parts: Names of those fields of a result that have a part for each sample.
        pairs: Whether its second axis is one of samples too.
        of_outputs: Whether it has a row for each output of each sample: of problems of outputs, not of losses.
        drops: Whether it can leave out samples that are not finite, and is proven with them.
        squares: Whether it holds squares of gradients, which leave the range of a dtype before these do.
        room: `room(theta)` raises a ValueError where a result of so many parameters has no room in memory.
        scratch: `scratch(theta, **options)`, bytes that a computation needs whatever its kernel.
        rank: Place in the list of quantities.
    """

    name: str
    shape: Callable[..., Shape] = field(compare=False)
    of: Callable[..., Any] = field(compare=False)
    expect: Callable[..., tuple[Any, Any]] = field(compare=False)
    averages: bool = field(default=False, compare=False)
    writable: bool = field(default=False, compare=False)
    options: tuple[Option, ...] = field(default=(), compare=False)
    per_parameter: bool = field(default=True, compare=False)
    structure: Callable[..., Tree] | None = field(default=None, compare=False)
    agree: Callable[[Options], None] = field(default=lambda options: None, compare=False)
    needs: Callable[[Draw], Options] = field(default=_none_needed, compare=False)
    settings: Callable[[Draw], Iterator[tuple[str, Options]]] = field(default=_none_more, compare=False)
    by_sample: bool = field(default=False, compare=False)
    sample_parts: tuple[str, ...] = field(default=(), compare=False)
    pairs: bool = field(default=False, compare=False)
    of_outputs: bool = field(default=False, compare=False)
    drops: bool = field(default=False, compare=False)
    squares: bool = field(default=False, compare=False)
    room: Callable[[Tree], None] = field(default=lambda theta: None, compare=False)
    scratch: Callable[..., int] = field(default=_no_bytes, compare=False)
    rank: int = field(default=100, compare=False)

    def __repr__(self) -> str:
        """Return `Quantity('norms')`."""
        return f"Quantity({self.name!r})"

    def __str__(self) -> str:
        return self.name

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of its keyword arguments besides `out`."""
        return tuple(option.name for option in self.options)

    def leading(self, n: int, options: Options) -> int:
        """Return how many axes the arrays of a result of several have in common, before those of a parameter.

        Args:
            n: Number of samples.
            options: Of the call.
        """
        return len(self.shape(n, (), **options)) if self.per_parameter or self.structure else 0

    def checked(self, options: Options, n: int, theta: Tree, prepared: Callable[[Tree, Tree], Any]) -> Options:
        """Return the options of a call as kernels take them.

        Args:
            options: As the caller gave them; `out` is passed on.
            n: Number of samples.
            theta: Parameters, arrays of the caller's library.
            prepared: `prepared(x, y)`, other samples as kernels take them.

        Raises:
            TypeError: One is missing, or not of the right kind.
            ValueError: One has a wrong shape or value.
        """
        found = {name: value for name, value in options.items() if name == "out"}
        for option in self.options:
            if options.get(option.name) is not None:
                value = option.checked(options[option.name], n, theta)
                found[option.name] = prepared(*value) if option.batch else value
            elif option.required:
                raise TypeError(f"{self.name} has no {option.name}; pass {option.name}=")
        self.agree(found)
        self.room(theta)
        return found

    def part(self, options: Options, samples: Any) -> Options:
        """Return the options for some of the samples.

        Args:
            options: For all.
            samples: Their numbers, an index of arrays.
        """
        known = {option.name: option for option in self.options}
        return {
            name: known[name].of_some(value[samples] if known[name].by_sample else value, samples)
            for name, value in options.items()
        }

    def blank(self, n: int, theta: Tree, options: Options | None = None) -> Any:
        """Make a result of n samples with the right structure and shapes, but of zeros without memory.

        Args:
            n: Number of samples.
            theta: Parameters.
            options: Of the call; None for those that proofs draw.
        """
        given = self.needs(Draw(n, theta)) if options is None else options
        if self.structure is not None:
            return self.structure(n, theta, **given)
        if not self.per_parameter:
            return np.broadcast_to(0.0, self.shape(n, theta, **given))
        one = each(lambda part: np.broadcast_to(0.0, self.shape(n, tuple(part.shape), **given)), theta)
        return Moments(one, one) if self.name == "moments" else one

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to the name, since definitions cannot be pickled; so that cases travel to other processes."""
        return quantity, (self.name,)


def _defined() -> dict[str, Quantity]:
    """Find the quantities in the modules of `gradkernels.quantities`."""
    folder = import_module("gradkernels.quantities")
    modules = [import_module(f"{folder.__name__}.{found.name}") for found in pkgutil.iter_modules(folder.__path__)]
    found = {one for module in modules for one in vars(module).values() if isinstance(one, Quantity)}
    return {one.name: one for one in sorted(found, key=lambda one: (one.rank, one.name))}


QUANTITIES = _defined()
"""All quantities by name."""


def quantity(name: str | Quantity) -> Quantity:
    """Return the quantity called `name`; a ValueError that lists near names otherwise."""
    if isinstance(name, Quantity):
        return name
    return pick(QUANTITIES, name, "quantity")
