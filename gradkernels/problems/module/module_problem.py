"""Any torch.nn.Module and its loss as a Problem.

Shapes, stated once: `theta` is a dict from parameter name to tensor, the trainable parameters alone, tied ones once
under their first name; x and y are tensors, or tuples, lists or dicts of tensors, with the samples first, and of
constants (`gradkernels.problems.module.inputs`); the model is called with x, *x or **x. Gradients are dicts with
theta's keys, per-sample gradients `(n, *parameter.shape)`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from gradkernels.backend import Array
from gradkernels.names import pick
from gradkernels.problems.module import conversion
from gradkernels.problems.module.black_box import BlackBox, globs_of
from gradkernels.problems.module.input_writes import protected
from gradkernels.problems.module.inputs import SharedPlaces, call_model, prepare
from gradkernels.problems.module.mixing.batch_loss import MIXING, check_mixing
from gradkernels.problems.module.mixing.check_schedule import CheckSchedule, batch_kind, check_schedule_of
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.mode_key.tracker import ModeKey, ModeTracker, tracked_objects
from gradkernels.problems.module.outputs import is_loss_of_outputs, output_weights, problem_of_outputs
from gradkernels.problems.module.random_state import seeded
from gradkernels.problems.module.requirements import (
    require_differentiable,
    require_example,
    require_fit,
    require_usable,
)
from gradkernels.problems.module.sample_losses import REDUCTIONS, SampleLosses, own_loss
from gradkernels.problems.module.structure import (
    LossFn,
    Module,
    Parameters,
    ProblemNames,
)
from gradkernels.tree import Tree

RANDOMNESS = ("error", "same", "different")
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}


@dataclass(frozen=True, eq=False)
class ModuleProblem(BlackBox):
    """The loss of a `torch.nn.Module`, one sample at a time.

    The model is used as it is, weights, modes and device, and left as it is. Problems of one model and loss are equal.

    Theta may be float64, float32, bfloat16 or float16, proven in float32; x and y are whatever the model takes.

    Attributes:
        model: The module; its parameters that require gradients are what is differentiated.
        loss_fn: `loss_fn(output, y)` of a batch, a scalar; a sample's own loss is that of a batch of one. None for the
            loss that the model computes itself, `output.loss`; y may then be None.
        reduction: Whether `loss_fn` is the `mean` or the `sum` over a batch.
        randomness: What dropout and other random functions do: `error`, they are refused; `same`, every sample sees
            the same draw; `different`, each its own.
        seed: Of those draws: each computation starts with it, so that it can be repeated, and torch's own generator
            goes on as if nothing had been drawn.
        example: `(x, y)` to draw from where no data are given: `gradkernels run`, `gk.fastest(..., n=)`.
        shared: What of x is the same for all samples: names of a dict's entries, or positions in a tuple.
        mixing: What becomes of a batch's loss that is not the mean of its samples' own: `error`, one warning where it
            weighs them, a ValueError where it is neither; `own`, their own are meant.
        only: Globs of the names of the parameters that are differentiated by; `parameters=` of a call sets it.
    """

    model: Module
    loss_fn: LossFn = own_loss
    reduction: str = "mean"
    randomness: str = "error"
    seed: int = 0
    example: tuple[Tree, Tree] | None = None
    shared: SharedPlaces = ()
    mixing: str = "error"
    only: tuple[str, ...] = ()

    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    dtypes: ClassVar[tuple[str, ...]] = (*TOLERANCES, *conversion.HALVES)

    def __eq__(self, other: object) -> bool:
        """Tell whether both compute the same by the very same model."""
        return isinstance(other, ModuleProblem) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __getstate__(self) -> dict[str, Any]:
        """Return what it was made with: what is kept besides is known by identities of this process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _key(self) -> tuple[Any, ...]:
        more = self.reduction, self.randomness, self.seed, self.shared, self.mixing, self.only
        return id(self.model), identity(self.loss_fn), *more

    def __post_init__(self) -> None:
        """Refuse what has no per-sample gradients, a reduction that the loss contradicts, and what is no example."""
        object.__setattr__(self, "loss_fn", own_loss if self.loss_fn is None else self.loss_fn)
        object.__setattr__(self, "shared", (self.shared,) if isinstance(self.shared, str) else tuple(self.shared))
        object.__setattr__(self, "only", globs_of(self.only) if self.only else ())
        for name, allowed in {"reduction": REDUCTIONS, "randomness": RANDOMNESS, "mixing": MIXING}.items():
            pick(dict.fromkeys(allowed), getattr(self, name), name)
        require_differentiable(self.model, self.loss_fn, self.reduction)
        require_example(self.example, self.shared)

    def prepared(self, x: Tree, y: Tree) -> tuple[Tree, Tree]:
        """Return x and y as trees of arrays with the samples first, among constants: what all else takes."""
        x, targets = prepare(x, y, self.shared)
        return x, output_weights(self, x) if y is None and self.is_of_outputs else targets

    @cached_property
    def is_of_outputs(self) -> bool:
        """Whether it is of the model's outputs, which its targets choose: all of them where those are None."""
        return is_loss_of_outputs(self.loss_fn)

    def of_outputs(self, of: Any = None) -> ModuleProblem:
        """Return the problem of the outputs alone, the same one for the same `of`; see `Problem.of_outputs`."""
        return self if self.is_of_outputs and of is None else problem_of_outputs(self, of)

    def mode_key(self) -> ModeKey:
        """Return what a kernel built for this problem relies on; another one whenever model or loss change."""
        if not self.only:
            return self._modes.key()
        with self.lock(), self.holding():
            return self._modes.key()

    @cached_property
    def _modes(self) -> ModeTracker:
        return ModeTracker(*tracked_objects(self.model, self.loss_fn))

    @property
    def name(self) -> str:
        """`module:LeNet:1f0c3a9b`: the class, and a fingerprint of the structure and the loss."""
        names = self.cache.setdefault("names", ProblemNames())
        with self.lock(), self.holding():
            found: str = names(self.mode_key(), self.model, self.loss_fn, self.reduction)
        return found

    def check_mixing(self, theta: Parameters, x: Tree, y: Tree) -> None:
        """Compare, at calls 1, 2, 4, 8, ... of a kind of batch, its loss with those of its samples (see `mixing`).

        Args:
            theta: Parameters by name.
            x: Inputs, prepared.
            y: Targets, prepared.
        """
        if self.mixing == "error" and self._mixing_checks.due(batch_kind(x, y)):
            check_mixing(self, self._mixing_checks, theta, x, y)

    @cached_property
    def _mixing_checks(self) -> CheckSchedule:
        return check_schedule_of(self)

    @cached_property
    def _losses(self) -> SampleLosses:
        return SampleLosses(self.loss_fn, self.reduction, self.model)

    @property
    def has_torch_loss(self) -> bool:
        """Whether the loss is one of torch's."""
        return self._losses.plain is not None

    def seeded(self) -> AbstractContextManager[None]:
        """Return a context whose random numbers start with the seed, where there are any."""
        return nullcontext() if self.randomness == "error" else seeded(self.parameters(), self.seed)

    def output(self, x: Tree) -> Tree:
        """Compute the model's output for a batch, with the parameters that it holds."""
        return call_model(self.model, protected(self.model, x))

    def losses(self, output: Tree, y: Tree) -> Array:
        """Compute the loss of each sample `(n,)` from the model's output for a batch."""
        return self._losses(output, protected(self.model, y))

    def batch_loss(self, output: Tree, y: Tree) -> Array:
        """Compute the loss of a batch, as the caller's function gives it."""
        return self._losses.of_batch(output, protected(self.model, y))

    def traceable_losses(self, output: Tree, y: Tree, at_once: bool = False) -> Array:
        """Compute the losses without a look at the targets' values.

        Args:
            output: The model's, samples first.
            y: Targets, samples first.
            at_once: Whether by one call of torch's loss: none of the targets is to be one that it ignores.
        """
        of = self._losses.at_once if at_once else self._losses.as_defined
        return of(output, protected(self.model, y))

    @property
    def fixed_features(self) -> int | None:
        """Those of the example, if any."""
        return max(1, self.features(self.prepared(*self.example)[0])) if self.example else None

    def draw(self, n: int, seed: int, features: int = 1) -> Any:
        """Draw parameters near the model's own, and n samples of the example, repeated if it has fewer.

        Args:
            n: Number of samples.
            seed: Of the draw.
            features: Not used: the example has its own.
        """
        return self.draw_theta(features, seed), *conversion.draw_samples(self, n, seed)

    def draw_theta(self, features: int, seed: int) -> Any:
        """Draw each parameter's own entry times 1 + 0.1 of a standard normal number, or one near zero; float64."""
        return conversion.draw_parameters(self.parameters(), seed)

    def validate(self, theta: Parameters, x: Tree, y: Tree) -> None:
        """Raise a ValueError unless theta, x and y fit the model and each other, and its modes allow it.

        Args:
            theta: Parameters by name.
            x: Inputs, prepared.
            y: Targets, prepared.
        """
        require_usable(self.model)
        require_fit(self.model, self.parameters(), self.chosen(theta), x, y)

    def cast(self, theta: Tree, x: Tree, y: Tree, dtype: str, order: Any = "C") -> tuple[Any, Any, Any]:
        """Convert numpy arrays of floats to `dtype`.

        Args:
            theta: Parameters by name.
            x: Inputs.
            y: Targets.
            dtype: `float64` or `float32`.
            order: Memory order, as numpy takes it.
        """
        return conversion.cast((theta, x, y), dtype, order)

    def for_proof(self, dtype: str, device: str) -> ModuleProblem:
        """Return itself, or a copy whose model has that dtype and device and draws alike for all samples."""
        changes = conversion.changes_for_proof(self, dtype, device)
        return replace(self, **changes) if changes else self

    def tolerance(self, dtype: str, terms: int) -> float:
        """Return the error allowed, relative to a row's norm: a network rounds otherwise than an inner product."""
        return TOLERANCES[dtype]
