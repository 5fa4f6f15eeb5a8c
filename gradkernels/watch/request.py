"""What a caller asks to be watched, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.amp.grad_scaler import GradScaler, OptState

from gradkernels.engines.hooks.accumulate.pieces import bytes_of_row
from gradkernels.names import pick
from gradkernels.problems.module.inputs import SharedPlaces
from gradkernels.problems.module.sample_losses import REDUCTIONS
from gradkernels.problems.module.structure import Parameters
from gradkernels.quantities.project import SIZE
from gradkernels.quantities.shared.groups import groups_of
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.values.measure import ROOM_OF_ROWS
from gradkernels.watch.values.measures import MEASURES, NEEDED, OPTIONS

PASS_KINDS = ("one", "same", "more")

NO_ROOM = (
    "the quantities of {n} samples take at least {total} bytes, {bytes} of them for {most}, and max_bytes={limit}: "
    "take smaller batches and seen.step() where their values may be joined, or ask for norms, weighted_sum or project, "
    "which form no gradients of single samples"
)

Quantities = str | Iterable[str] | Mapping[str, Mapping[str, Any]]
"""Names, or options by name."""


@dataclass(frozen=True)
class WatchRequest:
    """What is to be seen, of which steps, and how the loss is made.

    Attributes:
        quantities: Options by name.
        reduction: How the loss comes from those of the samples of one backward pass, `mean` or `sum`.
        every: Each of how many steps is looked at.
        scale: What the loss is multiplied with before the backward pass: a number, a function that gives it, or a
            GradScaler; None where nothing was said.
        shared: Positions and names of arguments that are the same for all samples.
        passes: Whether one backward pass goes through `one` forward pass, several of the `same` samples, or through
            `more`, each of samples of its own.
        max_bytes: That quantities of one forward pass's samples may take; None for any number.
    """

    quantities: dict[str, Mapping[str, Any]]
    reduction: str = "mean"
    every: int = 1
    scale: Any = None
    shared: SharedPlaces = ()
    passes: str = "one"
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse a reduction, a number of steps or a kind of passes that there is not."""
        pick({one: one for one in REDUCTIONS}, self.reduction, "reduction")
        pick({one: one for one in PASS_KINDS}, self.passes, "passes")
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise ValueError(f"every is {self.every!r}; it must be a whole number of steps, 1 for each of them")
        if self.max_bytes is not None and not (type(self.max_bytes) is int and self.max_bytes > 0):
            raise ValueError(f"max_bytes is {self.max_bytes!r}; it must be a whole number of bytes, or None for any")

    def require_room(self, theta: Parameters, n: int) -> None:
        """Raise a CannotWatch where the quantities of a batch take more memory than is allowed.

        Args:
            theta: Parameters by name.
            n: Number of samples.
        """
        if self.max_bytes is None:
            return
        needed = self._least_bytes(theta, n)
        if (total := sum(needed.values())) > self.max_bytes:
            most = max(needed, key=lambda name: needed[name])
            raise CannotWatch(NO_ROOM.format(n=n, total=total, limit=self.max_bytes, most=most, bytes=needed[most]))

    def within_limit(self, theta: Parameters, n: int) -> dict[str, Mapping[str, Any]]:
        """Return options by quantity, with the bytes that rows may take of which some can be formed at a time.

        Args:
            theta: Parameters by name.
            n: Number of samples.
        """
        cut = [name for name, options in self.quantities.items() if is_in_pieces(name, options)]
        if self.max_bytes is None or not cut:
            return self.quantities
        left = (self.max_bytes - sum(self._least_bytes(theta, n).values())) // len(cut)
        room = {name: {ROOM_OF_ROWS: max(0, left) + _least_rows(name, theta)} for name in cut}
        return {name: {**options, **room.get(name, {})} for name, options in self.quantities.items()}

    def _least_bytes(self, theta: Parameters, n: int) -> dict[str, int]:
        """Return what each quantity takes at least, with rows of as few samples at a time as can be."""
        found = dict[str, int]()
        for name, options in self.quantities.items():
            found[name] = bytes_of_quantity(name, options, theta, n)
            if is_in_pieces(name, options):
                found[name] += min(0, _least_rows(name, theta) - _bytes_of_rows(name, theta, n))
        return found

    def scale_now(self) -> float | None:
        """Return what the loss is multiplied with; None where nothing was said."""
        scale = getattr(self.scale, "get_scale", self.scale)
        return None if scale is None else float(scale() if callable(scale) else scale)

    def scale_left(self) -> tuple[float, bool]:
        """Return what `.grad` is to stay multiplied with, which a GradScaler takes off, and whether it has done so."""
        if not isinstance(self.scale, GradScaler):
            return 1.0, False
        stages = [one["stage"] for one in self.scale._per_optimizer_states.values()]
        return float(self.scale.get_scale()), any(stage is not OptState.READY for stage in stages)


def is_in_pieces(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a quantity is a sum over pieces of the samples, or made of two pieces at a time."""
    return name == "gram" or (name == "outer" and options.get("groups") is None)


def _bytes_of_rows(name: str, theta: Parameters, n: int) -> int:
    """Return what rows of n samples take of which such a quantity is made."""
    each = [bytes_of_row(one) for one in theta.values()]
    return n * (max(each) if name == "gram" else 2 * sum(each))  # for `outer` apart, and side by side


def _least_rows(name: str, theta: Parameters) -> int:
    """Return what they take of as few samples as can be."""
    return _bytes_of_rows(name, theta, 2 if name == "gram" else 1)


def bytes_of_quantity(name: str, options: Mapping[str, Any], theta: Parameters, n: int) -> int:
    """Return how much memory a quantity takes of a batch, with what it is made of; blocks of a few MB are left out.

    Args:
        name: Of the quantity.
        options: Of it.
        theta: Parameters by name.
        n: Number of samples.
    """
    each = [one.numel() * one.element_size() for one in theta.values()]
    entries, size = sum(one.numel() for one in theta.values()), max(one.element_size() for one in theta.values())
    taken = {
        "per_sample": n * sum(each),
        "outer": _bytes_of_rows("outer", theta, n) + entries**2 * size,
        "gram": _bytes_of_rows("gram", theta, n) + n**2 * size,
        "moments": 4 * sum(each),
        "group_sums": int(options.get("count", 1)) * sum(each) if name == "group_sums" else 0,
        "project": n * int(options.get("size", SIZE)) * size if name == "project" else 0,
        "norms": n * size,
    }
    return taken.get(name, sum(each))


def wanted(quantities: Quantities, theta: Parameters) -> dict[str, Mapping[str, Any]]:
    """Return options by quantity, checked.

    Args:
        quantities: As the caller gave them.
        theta: Parameters by name.
    """
    names = [quantities] if isinstance(quantities, str) else quantities
    given = {
        pick({one: one for one in MEASURES}, name, "quantity"): dict(names[name]) if isinstance(names, Mapping) else {}
        for name in names
    }
    for name, options in given.items():
        known = OPTIONS.get(name, ())
        if unknown := [one for one in options if one not in known]:
            raise ValueError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
        if options.get("by") is not None:
            options["by"] = groups_of(options["by"], 0, dict(theta))
    for name, options in given.items():
        for option, what in NEEDED.get(name, ()):
            if option not in options:
                raise ValueError(f"{name} needs {option}, {what}: {{{name!r}: {{{option!r}: ...}}}}")
    return {**given}
