"""One forward pass of the caller's, followed, and the gradients that arrive for it in the caller's backward pass."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.pulling import pull
from gradkernels.engines.hooks.accumulate.row_memory import RowMemory
from gradkernels.engines.hooks.capture.guesses import Guesses
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.rules.materialized import FormedRows
from gradkernels.problems.module.inputs import SharedPlaces
from gradkernels.problems.module.requirements import require_usable
from gradkernels.problems.module.structure import Module, sites
from gradkernels.watch.calls_seen import OnArrival, SeenCall, followed_again
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.graphs.plans import GraphPlans
from gradkernels.watch.model_calls import ModelCalls
from gradkernels.watch.values.measure import Term


def parameters_of(model: Module) -> dict[str, Array]:
    """Return the trained parameters that a model holds, by name."""
    return {name: module._parameters[of] for name, ((module, of), *_) in sites(model).items()}


class TrainedParameters:
    """The trained parameters of a model; it is walked through again where its modules or parameters are others.

    Args:
        model: That holds them.
    """

    def __init__(self, model: Module) -> None:
        self._model, self._modules, self._all = model, list[Module](), list[Array]()
        self._mixes, self._state, self._found = False, list[Any](), dict[str, Array]()

    def now(self) -> dict[str, Array]:
        """Return them by name."""
        if not self._modules or self._state_now() != self._state:
            self._walk()
        return self._found

    def usable(self) -> dict[str, Array]:
        """Return them by name, once the model is one whose samples have gradients.

        Raises:
            ValueError: It has a layer that mixes them, or hooks on its parameters.
        """
        found = self.now()
        self.require_usable(found)
        return found

    def require_usable(self, found: dict[str, Array]) -> None:
        """Raise a ValueError where the samples of the model have no gradients with these parameters."""
        if self._mixes or not found or any(one._backward_hooks for one in found.values()):
            require_usable(self._model)

    def _walk(self) -> None:
        self._modules, self._all, self._found, self._mixes = [], [], {}, False
        known = set[int]()
        for prefix, module in self._model.named_modules():
            self._modules.append(module)
            self._mixes = self._mixes or isinstance(module, _BatchNorm)
            for name, one in module._parameters.items():
                if one is not None and id(one) not in known:
                    known.add(id(one))
                    self._all.append(one)
                    if one.requires_grad:
                        self._found[f"{prefix}.{name}".lstrip(".")] = one
        self._state = self._state_now()

    def _state_now(self) -> list[Any]:
        """Return names and identities of all that the modules hold, and which parameters are trained."""
        held = [*(one._modules for one in self._modules), *(one._parameters for one in self._modules)]
        values = map(id, chain.from_iterable(map(dict.values, held)))
        trained = [one.requires_grad for one in self._all]
        return [*map(len, held), *chain.from_iterable(held), *values, *trained]


def samples_of(args: tuple[Any, ...], kwargs: dict[str, Any], shared: SharedPlaces, axis: int = 0) -> list[Array]:
    """Return the tensors that a model is called with and that have the samples along an axis, all as many.

    Args:
        args: By position.
        kwargs: By name.
        shared: Positions and names of those that are the same for all samples.
        axis: The samples', the first one if nothing is said.

    Raises:
        CannotWatch: They have not as many.
    """
    given: dict[Any, Any] = dict(enumerate(args)) | kwargs
    named = {
        f"{name}{'' if len(parts) == 1 else f'[{at}]'}": one
        for name, value in given.items()
        if name not in shared and (parts := pytree.tree_leaves(value)) is not None
        for at, one in enumerate(parts)
        if isinstance(one, torch.Tensor) and one.ndim > axis
    }
    if not named:
        raise CannotWatch("the model is called without a tensor that has the samples first")
    if len({one.shape[axis] for one in named.values()}) > 1:
        shapes = ", ".join(f"argument {name} {tuple(one.shape)}" for name, one in named.items())
        where = f"axis {axis}" if axis else "the first axis"
        raise CannotWatch(
            f"{shapes}: {where} is the samples, and must be as long for all; what is the same for all is "
            "to be named in shared= of gk.watch"
        )
    return list(named.values())


class KnownPasses:
    """Has a model's calls followed, but for those whose graph is that of an earlier one.

    Args:
        model: Whose parameters are watched.
        shared: Positions and names of arguments that are the same for all samples.
        axis: Of the other arguments that is the samples.
    """

    def __init__(self, model: Module, shared: SharedPlaces = (), axis: int = 0) -> None:
        self._model, self._shared, self._axis = model, shared, axis
        self._plans, self._guesses = GraphPlans(), Guesses()
        self._kind: Hashable = None

    def begin(self, theta: dict[str, Array], arguments: tuple[Any, dict[str, Any]], calls: ModelCalls) -> SeenCall:
        """Return a pass that is about to begin.

        Args:
            theta: Parameters by name, as the model holds them.
            arguments: That the model is called with, by position and by name.
            calls: That tell of it.
        """
        inputs = samples_of(*arguments, self._shared, self._axis)
        self._kind = None if self._axis else self._plans.kind(theta, *arguments)
        plan = None if self._kind is None or not calls.can_be_repeated else self._plans.get(self._kind)
        return SeenCall(theta, inputs, arguments, self._guesses, self._axis, plan)

    def end(self, call: SeenCall, output: Any, calls: ModelCalls, arrived: OnArrival) -> tuple[SeenCall, Any]:
        """Return a pass that has ended, and the output of the one that ran again in its place, None where none did.

        Args:
            call: The pass.
            output: The model's.
            calls: That tell of it.
            arrived: Told of it in the backward pass.
        """
        if call.end(output, arrived):
            if self._kind is not None:
                self._plans.keep(self._kind, call.plan)
            return call, None
        self._plans.miss(self._kind)
        inputs = samples_of(*call.arguments, self._shared)
        again = SeenCall(call.theta, inputs, call.arguments, self._guesses)
        return again, followed_again(call, again, calls.repeat, self._model, arrived)


def direct_terms(use: ParameterUse, g: Array, theta: dict[str, Array]) -> Iterable[Term]:
    """Return uses of parameters, or of blocks of them, where some targets are made of parameters.

    Their rows are pulled back now: once the caller's backward pass has gone through what made them, it is gone.

    Args:
        use: The use.
        g: Gradient of its output, samples first.
        theta: Parameters by name.
    """
    made = [place for place, target in use.targets.items() if not target.direct and target.block is None]
    return _pulled_terms(use, g, theta, made) if made else ((use, g),)


def _pulled_terms(use: ParameterUse, g: Array, theta: dict[str, Array], made: list[Any]) -> Iterator[Term]:
    """Yield the use without what is made of parameters, and that as rows of these.

    Args:
        use: The use.
        g: Gradient of its output, samples first.
        theta: Parameters by name.
        made: Places of what is made of parameters.
    """
    if kept := {place: target for place, target in use.targets.items() if place not in made}:
        part = copy.copy(use)
        part.targets = kept
        yield part, g
    for place in made:
        names = use.targets[place].names
        memory = RowMemory({name: theta[name].detach().new_empty((len(g), *theta[name].shape)) for name in names})
        pull((use, place, g), theta, memory)
        for name, rows in memory.finish().items():
            whole = theta[name]
            target = ParameterTensor(whole, (name,), direct=True, whole=whole, block=range(whole.numel()))
            yield FormedRows(target), rows
