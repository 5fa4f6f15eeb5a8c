"""One backward pass of the caller's: what arrives of its samples, held against what autograd gives the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import without_autocast
from gradkernels.engines.hooks.rules.single_sample import SingleSample
from gradkernels.watch.calls_seen import SeenCall
from gradkernels.watch.completeness import Completeness
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.loss_root import loss_end, require_reduction, root_of_backward
from gradkernels.watch.sample_gradients import SampleGradients, Wanted
from gradkernels.watch.values.measure import Arrived, Arriving
from gradkernels.watch.values.measures import AVERAGES, MEASURES

ONE_MEAN = (
    "the loss is one mean over what several forward passes have given, and of how many samples each has its share "
    "cannot be told: add up a mean for each of them, or take sums and pass reduction='sum'"
)


SPARSE = "{name} gets a sparse gradient; make its layer with sparse=False"


class BackwardPass:
    """A backward pass that is looked at, from the first gradient of an output of the model on.

    Args:
        calls: Forward passes whose graphs are there, in their order.
        wanted: Quantities.
        together: Whether they are passes of the same samples.
        keep: Whether what arrives is kept, and what `.grad` was before, so that sums may be put there.
        check: What holds that against autograd's own.
        restore: Whether `.grad` is kept with it; without, what arrives is kept for another use.
    """

    def __init__(
        self, calls: Sequence[SeenCall], wanted: Wanted, together: bool, keep: bool, check: Completeness,
        restore: bool = True,
    ) -> None:  # fmt: skip
        self.task = torch._C._current_graph_task_id()
        self.theta, self._calls, self._wanted, self._together = calls[0].theta, calls, wanted, together
        self.keep, self._restores, self.before = keep, keep and restore, dict[str, Array | None]()
        self._end = loss_end(root_of_backward(calls[0].thread))
        self._check = check
        self.samples: dict[int, SampleGradients] = {}
        self.heard: list[SeenCall] = []
        self.length: Callable[[int], float | None] = lambda i: None
        self.totals: dict[str, Array] = {}
        self._keeps_totals = any(MEASURES[name].keeps_totals for name in wanted)
        # Nodes die with their Python objects unless somebody holds them.
        everything = self._restores or self._keeps_totals or any(call.n == 1 for call in calls)
        names = [name for name in self.theta if everything or check.compares(name)]
        self._nodes = {name: get_gradient_edge(self.theta[name]).node for name in names}
        self._handles = [node.register_prehook(partial(self._hears(name), name)) for name, node in self._nodes.items()]

    def begin(self, call: SeenCall, shared: frozenset[str]) -> None:
        """Take it that gradients arrive for a forward pass.

        Args:
            call: The pass.
            shared: Names of parameters that are known to have several uses, whatever the pass says.
        """
        self.heard.append(call)
        key = 0 if self._together else id(call)
        if key not in self.samples:
            if self._together and len(self._calls) > 1:
                shared = frozenset(self.theta)
            known = Arriving(self.theta, call.shared | shared, call.n)
            self.samples[key] = SampleGradients(known, self._wanted, self.keep, self._check)
            order = [0, *map(id, self._calls)]  # of the forward passes, not of the gradients
            self.samples = {one: self.samples[one] for one in order if one in self.samples}
        call.listener.consumer = self.samples[key]
        if call.heard is not None and not (self._together and len(self._calls) > 1):
            self.samples[key].wait_for(call.heard)

    def _hears(self, name: str) -> Callable[[str, tuple[Array | None, ...]], None]:
        """Return what looks at a parameter's gradient: no more than keeps it, where it is not asked for otherwise."""
        alone = self._keeps_totals and not self._restores and not self._check.compares(name)
        return self._keep_total if alone and all(call.n != 1 for call in self._calls) else self._given

    def _keep_total(self, name: str, gradients: tuple[Array | None, ...]) -> None:
        """Keep what autograd is about to add to a parameter's `.grad`."""
        if (total := _strided(name, gradients)) is None:
            return
        total, before = total.detach(), self.totals.get(name)
        self.totals[name] = total if before is None else total + before

    def _given(self, name: str, gradients: tuple[Array | None, ...]) -> None:
        """Look at what autograd is about to add to a parameter's `.grad`."""
        if (total := _strided(name, gradients)) is None:
            return
        parameter = self.theta[name]
        with torch.no_grad(), without_autocast(total.device):
            if self._restores and name not in self.before:
                self.before[name] = None if parameter.grad is None else parameter.grad.detach().clone()
            self._check.give(name, total)
            if self._keeps_totals:
                self._keep_total(name, gradients)
            if self._is_of_one:
                row = total.detach().clone()[None]  # autograd may make `.grad` of the memory of the total itself
                self.samples[0 if self._together else id(self.heard[0])](SingleSample(name, parameter), row)

    @property
    def _is_of_one(self) -> bool:
        """Whether there is one sample, whose gradient is the batch's."""
        return all(call.n == 1 for call in self.heard) and (self._together or len(self.heard) == 1)

    def settle(self) -> None:
        """Take what has waited for others, once the backward pass is over."""
        for one in self.samples.values():
            one.settle()

    def require(self, reduction: str, scale: float | None) -> None:
        """Raise a CannotWatch where the loss is none that was said, or something is left out of it.

        Args:
            reduction: Of the loss, `mean` or `sum`.
            scale: What it is said to be multiplied with; None where nothing was said.
        """
        self.require_same_samples()
        self.require_loss(reduction, scale)
        self.require_all()

    def require_same_samples(self) -> None:
        """Raise a CannotWatch where forward passes of the same samples have not as many."""
        if self._together and len({call.n for call in self.heard}) > 1:
            sizes = ", ".join(str(call.n) for call in self.heard)
            raise CannotWatch(f"passes='same', and the forward passes have {sizes} samples")

    def require_loss(self, reduction: str, scale: float | None) -> None:
        """Raise a CannotWatch where the loss is none that was said.

        Args:
            reduction: Of the loss, `mean` or `sum`.
            scale: What it is said to be multiplied with; None where nothing was said.
        """
        if len(self.samples) == 1 and self.n > 1:
            require_reduction(self._end, reduction, scale)
        elif len(self.samples) > 1 and reduction == "mean" and self._end is not None and self._end.reduction == "mean":
            raise CannotWatch(ONE_MEAN)

    def require_all(self) -> None:
        """Raise a CannotWatch where the samples' gradients do not add up to what autograd gives the parameters."""
        if self.n:
            self._check.require()

    @property
    def tolerance(self) -> float:
        """How far results may be from those of another computation, relative to a sample's length."""
        return self._check.tolerance

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.theta.values())).device

    @property
    def n(self) -> int:
        """Number of samples."""
        return sum(one.known.n for one in self.samples.values())

    def factor(self, samples: SampleGradients, reduction: str, scale: float | None) -> float:
        """Return what gradients that arrive are multiplied with to be the samples' own.

        Args:
            samples: Whose they are.
            reduction: Of the loss over these.
            scale: What the loss is multiplied with besides.
        """
        return (samples.known.n if reduction == "mean" else 1) / (1.0 if scale is None else scale)

    def results(self, key: int, factor: float) -> dict[str, Any]:
        """Return the quantities of one set of samples by name; None where no samples have none.

        Args:
            key: Of the set.
            factor: What its gradients are multiplied with.
        """
        samples = self.samples[key]
        arrived = Arrived(factor, self.totals, samples.terms, samples.squares, self.length)
        if len(self.samples) > 1 and self.totals:
            raise CannotWatch("gradient and noise_scale are of one set of samples; passes='more' has several")
        empty = not samples.known.n
        measures = samples.measures.items()
        return {name: None if empty and name in AVERAGES else one.result(arrived) for name, one in measures}

    def close(self) -> None:
        """Hear of nothing any more."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._nodes = [], {}
        self.length = lambda i: None
        for call in self.heard:
            call.wait()


def _strided(name: str, gradients: tuple[Array | None, ...]) -> Array | None:
    """Return the gradient that a node of `.grad` has been given; raise a CannotWatch where it is sparse."""
    (total,) = gradients
    if total is not None and total.layout is not torch.strided:
        raise CannotWatch(SPARSE.format(name=name))
    return total
