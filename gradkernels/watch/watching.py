"""`gk.watch`: per-sample gradients of a caller's own training loop."""

from __future__ import annotations

from typing import Any

from gradkernels.problems.module.inputs import SharedPlaces
from gradkernels.problems.module.requirements import require_parameters, require_trained
from gradkernels.problems.module.structure import Module
from gradkernels.watch.model_calls import watched_module
from gradkernels.watch.passes import parameters_of
from gradkernels.watch.request import Quantities, WatchRequest, wanted
from gradkernels.watch.session import Watch


def watch(
    model: Module,
    quantities: Quantities = ("norms",),
    *,
    reduction: str = "mean",
    every: int = 1,
    scale: Any = None,
    shared: SharedPlaces | str | int = (),
    passes: str = "one",
    max_bytes: int | None = None,
) -> Watch:
    """Watch the samples' gradients in the caller's own forward pass, loss and backward pass; a context.

        with gk.watch(model, ["norms", "gram"], reduction="mean") as seen:
            for x, y in loader:
                loss_fn(model(x), y).backward()
                seen.norms, seen.gram

    Args:
        model: A module, as it is called: compiled, or in DistributedDataParallel, too.
        quantities: Names: norms, gram, per_sample, gradient, moments, noise_scale, inner, project, weighted_sum,
            group_sums, outer; or options by name, `{"norms": {"by": "parameter"}}`. Weights and groups are the batch's:
            a function without arguments gives them at each backward pass.
        reduction: How the loss comes from those of the samples of one backward pass, `mean` or `sum`.
        every: Each of how many steps is looked at, from the first one on.
        scale: What the loss is multiplied with: a number (1 / 4 where four backward passes make a step), a function
            that gives it, or a GradScaler.
        shared: Positions and names of the model's arguments that are the same for all samples.
        passes: Whether a backward pass goes through `one` forward pass, several of the `same` samples, or `more`.
        max_bytes: That a batch's quantities may take: gram and outer by pieces that fit; what needs more is refused.

    Raises:
        CannotWatch: It cannot be watched; raised by the forward or the backward pass where it is found out there.
        ValueError: An unknown quantity, option or reduction.
    """
    require_parameters(module := watched_module(model))
    require_trained(module)
    names = (shared,) if isinstance(shared, str | int) else tuple(shared)
    given = reduction, every, scale, names, passes, max_bytes
    return Watch(model, WatchRequest(wanted(quantities, parameters_of(module)), *given))
