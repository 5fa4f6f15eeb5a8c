"""One forward and one backward pass of a model; what is made of the gradients is an accumulator's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture import one_draw
from gradkernels.engines.hooks.capture.boundary_rules import GradientConsumer
from gradkernels.engines.hooks.capture.guesses import Guesses
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.following import Following, GradientListener
from gradkernels.engines.hooks.precision import in_parameters_dtype
from gradkernels.engines.hooks.rules.single_sample import SingleSample
from gradkernels.engines.hooks.shared_pass import KeptGradients, pass_key
from gradkernels.memory import ordinary
from gradkernels.memory.shared_passes import current_passes
from gradkernels.problems.module.conversion import dense
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import swapped_parameters
from gradkernels.tree import Tree, count, each, leaves


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass that is ready to be differentiated.

    Attributes:
        theta: The parameters, as leaves of its graph.
        losses: Of each sample, `(n,)`.
        shared: Names of the parameters whose rows come from more than one use, or from what was made of them.
        sources: Where backward passes end; None for one sample, whose gradient is the batch's.
        listener: Called as gradients arrive.
        repeated: Whether parts of it run again in the backward pass: what arrives is not to be kept.
        kept: What arrived, for the next computation that takes this pass; None where there is none.
    """

    theta: dict[str, Array]
    losses: Array
    shared: frozenset[str]
    sources: list[Any] | None
    listener: GradientListener
    repeated: bool = False
    kept: KeptGradients | None = None

    def backward(self, consumer: GradientConsumer, weights: Array | None = None, keep: bool = False) -> None:
        """Run the backward pass of the sum of the losses, or of the weighted losses.

        Args:
            consumer: Gets what arrives.
            weights: Of the losses, `(n,)`.
            keep: Whether another backward pass will follow.
        """
        if self.kept is None:
            self._run(consumer, weights, keep)
        else:
            self.kept.pass_on(self._run, consumer, weights)

    def _run(self, consumer: GradientConsumer, weights: Array | None = None, keep: bool = False) -> None:
        total = self.losses.sum() if weights is None else self.losses @ weights.to(self.losses.dtype)
        with self.listener.passing_on(lambda use, g: consumer(*in_parameters_dtype(use, g))):
            if self.sources is None:
                self._alone(total, keep)
            elif self.sources and total.requires_grad:
                torch.autograd.grad(total, self.sources, retain_graph=keep, allow_unused=True)

    def backward_of_several(self, consumer: GradientConsumer, ends: Array) -> None:
        """Run one backward pass of several weightings of the losses, which another one may follow.

        Args:
            consumer: Gets what arrives, as vmap has it.
            ends: Weights, `(k, *losses.shape)`.
        """
        with self.listener.passing_on(lambda use, g: consumer(*in_parameters_dtype(use, g))):
            if self.sources and self.losses.requires_grad:
                torch.vmap(self._from)(ends)

    def _from(self, end: Array) -> Array:
        torch.autograd.grad(self.losses, self.sources or (), end, retain_graph=True, allow_unused=True)
        return end.new_zeros(())  # vmap has functions give something

    def _alone(self, total: Array, keep: bool) -> None:
        tensors = list(self.theta.values())
        if not total.requires_grad:
            return
        parts = torch.autograd.grad(total, tensors, retain_graph=keep, allow_unused=True)
        for (name, tensor), part in zip(self.theta.items(), parts, strict=True):
            if part is not None:
                self.listener(SingleSample(name, tensor), dense(part)[None])


class HooksEngine:
    """Differentiates one problem.

    Args:
        problem: Whose model.
        losses: `losses(output, y)`, the loss of each sample; the problem's own by default.

    Attributes:
        known_shared: Names of parameters that are known to have several uses, whatever a forward pass says.
        guesses: Which constants that are as many as samples have one for each.
    """

    def __init__(self, problem: ModuleProblem, losses: Callable[[Tree, Tree], Array] | None = None) -> None:
        self._problem = problem
        self._losses, self._own_losses = losses or problem.losses, losses is not None
        self.known_shared = frozenset[str]()
        self.guesses = Guesses()

    @contextmanager
    def forward(self, theta: dict[str, Array], x: Tree, y: Tree) -> Iterator[ForwardPass]:
        """Run the model forward, or take the pass that is shared; within the context it holds theta.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        passes = None if self._own_losses or self.draws_each or count(x) == 1 else current_passes()
        key = pass_key(passes, self._problem, theta, (x, y)) if passes is not None else None
        with torch.inference_mode(False), torch.enable_grad():
            if passes is not None and (known := passes.get(key)) is not None:
                yield replace(known, shared=known.shared | self.known_shared)
                return
            leaf = {name: _leaf(tensor) for name, tensor in theta.items()}
            # Other tensors than the caller's, whose graph ends here.
            x, y = each(lambda tensor: ordinary(tensor).detach(), (x, y))
            with self._holding(leaf):
                if count(x) == 1:
                    yield self._of_one(leaf, x, y)
                    return
                with self._taped(leaf, x, y) as forward:
                    if passes is None or key is None or forward.repeated:
                        yield forward
                        return
                    kept = KeptGradients((theta, x, y))
                    yield (shared := replace(forward, kept=kept))
                    if kept.complete:
                        passes.keep(key, shared)

    def _of_one(self, leaf: dict[str, Array], x: Tree, y: Tree) -> ForwardPass:
        with self._again():
            losses = self._losses_of(self._problem.output(x), y)
        return ForwardPass(leaf, losses, frozenset(), None, GradientListener())

    @contextmanager
    def _taped(self, leaf: dict[str, Array], x: Tree, y: Tree) -> Iterator[ForwardPass]:
        listener = GradientListener()
        alike = one_draw.call_with_one_draw if self._problem.randomness == "same" else None
        following = Following(leaf, count(x), listener, alike=alike, each=self.draws_each, guesses=self.guesses)
        try:
            with self._again(), following.running(leaves(x)):
                output = self._problem.output(x)
            outputs = following.check_outputs(output)
            # A loss of torch takes nothing but what it is given.
            with nullcontext() if self._problem.has_torch_loss else following.guarded(outputs):
                losses = self._losses_of(output, y)
            shared = self.known_shared | following.shared
            yield ForwardPass(leaf, losses, shared, following.sources, listener, following.repeats)
        finally:
            following.close()

    def _losses_of(self, output: Tree, y: Tree) -> Array:
        try:
            return self._losses(output, y)
        except Unfit:
            raise
        except Exception as error:  # whatever the caller's loss raises for a batch, it may not for one sample
            raise Unfit(f"loss_fn cannot take a batch's output apart: {error}") from error

    @property
    def draws_each(self) -> bool:
        """Whether each sample draws numbers of its own, so that none is computed twice alike."""
        return self._problem.randomness == "different"

    def drawing(self) -> AbstractContextManager[None]:
        """Return a context around all chunks of a call, whose samples draw one after the other."""
        return nullcontext() if self._problem.randomness == "same" else self._problem.seeded()

    def _again(self) -> AbstractContextManager[None]:
        """Return a context around each chunk: a draw that is the same for all samples starts anew."""
        return self._problem.seeded() if self._problem.randomness == "same" else nullcontext()

    def _holding(self, theta: dict[str, Array]) -> AbstractContextManager[None]:
        sites = self._problem.sites()
        of_model = (module._parameters[name] for (module, name), *_ in sites.values())
        if all(one is other for one, other in zip(of_model, theta.values(), strict=True)):
            return nullcontext()
        return swapped_parameters(sites, theta)


def _leaf(tensor: Array) -> Array:
    """Return the tensor itself if it is a parameter, else the same memory as a leaf that can be differentiated by."""
    if tensor.requires_grad and tensor.is_leaf:
        return tensor
    return ordinary(tensor).detach().requires_grad_()
