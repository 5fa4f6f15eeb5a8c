"""Any torch.nn.Module and its loss as a Problem.

Shapes, stated once: `theta` is a dict from parameter name to tensor, the trainable parameters alone, tied ones once
under their first name; x and y are tensors, or tuples or dicts of tensors, with the samples first; the model is called
with x, *x or **x. Gradients are dicts with theta's keys, per-sample gradients `(n, *parameter.shape)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.names import pick
from gradkernels.problems import checkpoints, numeric
from gradkernels.problems.backward import truth
from gradkernels.problems.fitting import require_example, require_fit, require_parameters, require_samples
from gradkernels.problems.losses import REDUCTIONS, LossFn, sample_losses, unreduced
from gradkernels.problems.modes import Modes, Stamp, roots_of
from gradkernels.problems.problem import Problem, Truth
from gradkernels.problems.structure import (
    Module,
    Parameters,
    Site,
    fingerprint,
    named_loss,
    sites,
    stamp,
    state,
    swapped,
    turn,
)
from gradkernels.tree import Tree, each, leaves, named

RANDOMNESS = ("error", "same", "different")
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
HALVES = ("bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class ModuleProblem(Problem):
    """The loss of a `torch.nn.Module`, one sample at a time.

    The model is used as it is, weights, modes and device, and left as it is. Problems of one model and loss are equal.

    Theta may be float64, float32, bfloat16 or float16, x and y whatever the model takes. numpy has no half precision
    and rounding leaves little to compare in it: kernels are proven in float32 for it.

    Attributes:
        model: The module; its parameters that require gradients are what is differentiated.
        loss_fn: `loss_fn(output, y)` of a batch, a scalar; a sample's own loss is that of a batch of one.
        reduction: Whether `loss_fn` is the `mean` or the `sum` over a batch.
        randomness: What dropout and other random functions do: `error`, they are refused; `same`, every sample sees
            the same draw; `different`, each its own.
        seed: Of those draws: each computation starts with it, so that it can be repeated, and torch's own generator
            goes on as if nothing had been drawn.
        example: `(x, y)` to draw from where no data are given: `gradkernels run`, `gk.fastest(..., n=)`.
    """

    model: Module
    loss_fn: LossFn
    reduction: str = "mean"
    randomness: str = "error"
    seed: int = 0
    example: tuple[Tree, Tree] | None = None

    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    dtypes: ClassVar[tuple[str, ...]] = (*TOLERANCES, *HALVES)
    opaque: ClassVar[bool] = True

    def __eq__(self, other: object) -> bool:
        """Whether both compute the same by the very same model."""
        return isinstance(other, ModuleProblem) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __getstate__(self) -> dict[str, Any]:
        """What it was made with: what is kept besides is known by identities of this process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _key(self) -> tuple[Any, ...]:
        return (id(self.model), self.loss_fn, self.reduction, self.randomness, self.seed)

    def __post_init__(self) -> None:
        """Refuse what has no per-sample gradients, a reduction that the loss contradicts, and what is no example."""
        import torch

        if not isinstance(self.model, torch.nn.Module):
            raise TypeError(f"model is a {type(self.model).__name__}; it must be a torch.nn.Module")
        if not callable(self.loss_fn):
            raise TypeError(f"loss_fn is a {type(self.loss_fn).__name__}; pass a function of (output, target)")
        pick(dict.fromkeys(REDUCTIONS), self.reduction, "reduction")
        pick(dict.fromkeys(RANDOMNESS), self.randomness, "randomness")
        require_parameters(self.model)
        said = getattr(self.loss_fn, "reduction", self.reduction)
        said = "mean" if said == "batchmean" else said  # KLDivLoss: the mean over samples of each one's sum
        if said != self.reduction:
            raise ValueError(f"reduction={self.reduction!r}, but loss_fn has reduction={said!r}; make them equal")
        if not self.sites():
            raise ValueError(f"{type(self.model).__name__} has no parameter that requires a gradient")
        if self.example is not None:
            require_example(self.example)

    def sites(self) -> dict[str, list[Site]]:
        """Every place of each trainable parameter, by name."""
        return sites(self.model)

    def own(self) -> dict[str, Any]:
        """The model's own trainable parameters, by name: not copies."""
        return {name: module._parameters[attribute] for name, ((module, attribute), *_) in self.sites().items()}

    def stamp(self) -> Stamp:
        """What a kernel built for this problem relies on; another one whenever model or loss change."""
        return self._modes.stamp()

    @cached_property
    def _modes(self) -> Modes:
        return Modes(*roots_of(self.model, self.loss_fn))

    @property
    def name(self) -> str:
        """`module:LeNet:1f0c3a9b`: the class, and a fingerprint of the structure and the loss."""
        key = self.stamp()
        if key not in self._names:
            digits = fingerprint(self.model, named_loss(self.loss_fn), self.reduction, str(stamp(self.model)))
            self._names[key] = f"module:{type(self.model).__name__}:{digits}"
        return self._names[key]

    @cached_property
    def _names(self) -> dict[Any, str]:
        return {}

    @cached_property
    def _plain(self) -> LossFn | None:
        return unreduced(self.loss_fn)

    @property
    def plain(self) -> bool:
        """Whether the loss is one of torch's."""
        return self._plain is not None

    def state(self) -> dict[str, Any]:
        """Modes, hooks, parameters, their gradients and buffers."""
        return state(self.model)

    def holding(self, theta: Parameters) -> AbstractContextManager[None]:
        """A context in which the model holds `theta`."""
        return swapped(self.sites(), theta)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """A context whose random numbers start with the seed, where there are any."""
        if self.randomness == "error":
            yield
            return
        import torch

        device = next(iter(self.own().values())).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield

    def turn(self) -> AbstractContextManager[Any]:
        """A context that one thread at a time is in, for all problems of the model."""
        return turn(self.model)

    def output(self, x: Tree) -> Tree:
        """The model's output for a batch, with the parameters that it holds."""
        with checkpoints.differentiable():
            if isinstance(x, dict):
                return self.model(**x)
            return self.model(*x) if isinstance(x, tuple) else self.model(x)

    def losses(self, output: Tree, y: Tree) -> Array:
        """Loss of each sample `(n,)` from the model's output for a batch."""
        return sample_losses(self.loss_fn, self._plain, self.reduction, output, y)

    def defined_losses(self, output: Tree, y: Tree) -> Array:
        """The same as they are defined, without a look at the targets' values: what can be traced."""
        return sample_losses(self.loss_fn, None, self.reduction, output, y)

    def loss(self, theta: Parameters, x: Tree, y: Tree) -> Array:
        """Loss of ONE sample, without its axis, a scalar: what `torch.func` and loops differentiate."""
        with self.holding(theta):
            output = self.output(each(lambda array: array[None], x))
        return self.loss_fn(output, each(lambda array: array[None], y))

    def batch(self, theta: Parameters, x: Tree, y: Tree) -> Array:
        """Loss of each sample of a batch, `(n,)`, from one forward pass."""
        with self.holding(theta):
            return self.losses(self.output(x), y)

    def shape(self, features: int) -> Any:
        """Shapes of the parameters, by name."""
        return {name: tuple(parameter.shape) for name, parameter in self.own().items()}

    def size(self, features: int) -> int:
        """p, the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.own().values())

    def features(self, x: Tree) -> int:
        """Entries of one sample over all tensors of x."""
        return sum(int(np.prod(array.shape[1:])) for array in leaves(x))

    @property
    def own_features(self) -> int | None:
        """Those of the example, if there is one."""
        return None if self.example is None else max(1, self.features(self.example[0]))

    def draw(self, n: int, seed: int, features: int = 1) -> Any:
        """Parameters near the model's own, and n samples of the example, again and again if it has fewer."""
        if self.example is None:
            raise ValueError(f"{self.name} has no data to draw from; make the ModuleProblem with example=(x, y)")
        return self.draw_theta(features, seed), *numeric.samples(self.example, n, seed)

    def draw_theta(self, features: int, seed: int) -> Any:
        """The model's own parameters, each entry times 1 + 0.1 of a standard normal number, or near zero; float64."""
        return numeric.parameters(self.own(), seed)

    def validate(self, theta: Parameters, x: Tree, y: Tree) -> None:
        """Raise a ValueError unless theta, x and y fit the model and each other, and its modes allow it."""
        require_samples(self.model)
        require_fit(self.shape(1), theta, x, y)

    def floats(self, theta: Tree, x: Tree, y: Tree) -> dict[str, Array]:
        """Theta alone: x and y are whatever the model takes."""
        return dict(named("theta", theta))

    def cast(self, theta: Tree, x: Tree, y: Tree, dtype: str, order: Any = "C") -> tuple[Any, Any, Any]:
        """Numpy arrays, those of floats in `dtype`."""
        if dtype in HALVES:
            raise ValueError(f"numpy has no {dtype}; kernels are proven and timed in {' and '.join(TOLERANCES)}")
        theta, x, y = each(lambda array: numeric.cast(array, dtype, order), (theta, x, y))
        return theta, x, y

    def provable(self, dtype: str, device: str) -> ModuleProblem:
        """A copy whose model has that dtype and device, float32 for halves, and draws the same for every sample.

        Returns:
            The problem itself, where it is like that already.
        """
        dtype = "float32" if dtype in HALVES else dtype
        changes: dict[str, Any] = {"randomness": "same"} if self.randomness == "different" else {}
        own = next(iter(self.own().values()))
        if (numeric.dtype_name(own), str(own.device)) != (dtype, device):
            moved = [numeric.moved(one, dtype, device) for one in (self.model, self.loss_fn)]
            changes |= {"model": moved[0], "loss_fn": moved[1]}
        return replace(self, **changes) if changes else self

    def tolerance(self, dtype: str, terms: int) -> float:
        """Relative to the row's norm, as the rounding of a whole network is not that of one inner product."""
        return TOLERANCES[dtype]

    def truth(self, theta: Any, x: Tree, y: Tree) -> Truth:
        """One backward pass per sample in float64; see `gradkernels.problems.backward`."""
        return truth(self, theta, x, y)
