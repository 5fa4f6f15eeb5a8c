"""What a caller asks to be watched, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.amp.grad_scaler import GradScaler, OptState

from gradkernels.names import pick
from gradkernels.problems.module.inputs import SharedPlaces
from gradkernels.problems.module.sample_losses import REDUCTIONS
from gradkernels.problems.module.structure import Parameters
from gradkernels.quantities.shared.groups import groups_of
from gradkernels.watch.values.measures import MEASURES, NEEDED, OPTIONS

PASS_KINDS = ("one", "same", "more")

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
    """

    quantities: dict[str, Mapping[str, Any]]
    reduction: str = "mean"
    every: int = 1
    scale: Any = None
    shared: SharedPlaces = ()
    passes: str = "one"

    def __post_init__(self) -> None:
        """Refuse a reduction, a number of steps or a kind of passes that there is not."""
        pick({one: one for one in REDUCTIONS}, self.reduction, "reduction")
        pick({one: one for one in PASS_KINDS}, self.passes, "passes")
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise ValueError(f"every is {self.every!r}; it must be a whole number of steps, 1 for each of them")

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
