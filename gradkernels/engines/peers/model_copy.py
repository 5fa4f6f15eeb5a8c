"""A copy of a problem's model that a library may wrap, hook and write to, so that the model itself is never touched.

The copy is made at the first call with a dtype and device in a state of the model, and kept
(`gradkernels.engines.state_cache`). At each call its parameters are made to refer to theta, which copies nothing;
buffers, which a library could write to, are copied.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gradkernels.backend import Array
from gradkernels.case import Case
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.peers.random_state import requiring_no_draws
from gradkernels.engines.state_cache import StateCache
from gradkernels.kernel import Refuses
from gradkernels.memory import ordinary
from gradkernels.problems.module.input_writes import share_input_writes
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.output_axes import share_output_axes
from gradkernels.problems.module.structure import Module, Parameters, Slot
from gradkernels.quantity import quantity
from gradkernels.tree import Tree, each


@dataclass(frozen=True)
class PeerLibrary:
    """A library's hold on a copy of a model.

    Attributes:
        name: The kernel's way, for messages.
        prepare: `prepare(model)`, wraps or extends the copy; what it returns is called.
        forget: `forget(parameter)`, takes what the library left on a parameter off it.
        replaces: `replaces(model)`, puts the library's own layers in the place of others before that.
        refuses: `refuses(case)`, what the library cannot do, asked in each state of the model.
    """

    name: str
    prepare: Callable[[Module], Module]
    forget: Callable[[Any], None]
    replaces: Callable[[Module], None] = lambda model: None
    refuses: Refuses = lambda case: []


UNPREPARED = PeerLibrary("the copy", lambda model: model, lambda parameter: None)


@dataclass(frozen=True)
class ModelCopy:
    """A copy of a model, as a library has prepared it.

    Attributes:
        problem: The problem with the prepared copy as its model.
        parameters: The copy's trainable parameters by the names that they have in theta.
        frozen: A frozen parameter of the copy, with where the model has its own: that may be replaced.
        buffers: The same of buffers.
    """

    problem: ModuleProblem
    parameters: dict[str, Any]
    frozen: list[tuple[Any, Slot]]
    buffers: list[tuple[Any, Slot]]

    def hold(self, theta: Parameters) -> None:
        """Take the values of theta, and what else the model has now."""
        for name, parameter in self.parameters.items():
            parameter.data = theta[name]
        for mine, (held, name) in self.frozen:
            mine.data = held[name].detach().to(mine.device, mine.dtype)
        for mine, (held, name) in self.buffers:
            mine.copy_(held[name])

    def release(self) -> None:
        """Drop the memory of theta."""
        for parameter in self.parameters.values():
            parameter.data = parameter.data.new_empty(0)

    def losses(self, x: Tree, y: Tree) -> Array:
        """Return the loss of each sample, `(n,)`: libraries differentiate its sum, so that results hold no 1/n."""
        return self.problem.losses(self.problem.output(x), y)


class ModelCopies:
    """The copies of one problem's model, by its state, dtype and device.

    Args:
        problem: Whose model is copied.
        library: What is done to the copies.

    Attributes:
        states: The copies.
    """

    def __init__(self, problem: ModuleProblem, library: PeerLibrary) -> None:
        from gradkernels.engines.peers.sample_order import SampleOrder

        self.problem, self.library = problem, library
        self.states = StateCache(problem, self._new)
        self._bare = StateCache(problem, partial(self._new, bare=True))
        self._sample_order = SampleOrder(library.name)

    @contextmanager
    def borrow(self, theta: Parameters, x: Tree, y: Tree) -> Iterator[tuple[ModelCopy, Tree, Tree]]:
        """Lend a copy that holds theta, and the data, ready for autograd; what fails becomes one sentence.

        A copy that something failed on is thrown away.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.

        Raises:
            Unfit: The model moves samples to other places, draws random numbers, or is refused in its present state.
            RuntimeError: Anything else.
        """
        import torch

        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hooks on layers whose inputs need no gradient, functions without vmap
            theta, x, y = each(lambda tensor: ordinary(tensor).detach(), (dict(theta), x, y))
            first = next(iter(theta.values()))
            try:
                with requiring_no_draws():
                    self.check_sample_order(theta, x, y)
                    key, copied = self.states.take(first.dtype, first.device)
                    with torch.no_grad():
                        copied.hold(theta)
                    yield copied, x, y
            except Unfit:
                raise
            except Exception as error:
                raise RuntimeError(self._sentence(error)) from error
            for parameter in copied.parameters.values():
                parameter.grad = None
                self.library.forget(parameter)
            self.states.keep(key, copied)

    def check_sample_order(self, theta: Parameters, x: Tree, y: Tree) -> None:
        """Require that samples stay in their places, in a copy that no library has touched.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        import torch

        first = next(iter(theta.values()))
        of = first.dtype, first.device
        if self._sample_order.known((state := (self.problem.mode_key(), *of)), x, y):
            return
        dtype = torch.promote_types(first.dtype, torch.float32)
        theta, x, y = each(lambda one: one.to(dtype) if one.is_floating_point() else one, (dict(theta), x, y))
        bare = self._bare(dtype, first.device)
        with torch.no_grad():
            bare.hold(theta)
        self._sample_order.require(bare.problem, state, x, y)
        bare.release()

    def _new(self, dtype: Any, device: Any, bare: bool = False) -> ModelCopy:
        """Make a copy, prepared by the library or as it is; draw none of the caller's random numbers."""
        import torch

        library = UNPREPARED if bare else self.library
        if reasons := library.refuses(Case(self.problem, quantity("per_sample"), 1, str(dtype).removeprefix("torch."))):
            raise Unfit(f"{library.name} cannot do this: {'; '.join(reasons)}")
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return self._copied(dtype, device, library)

    def _copied(self, dtype: Any, device: Any, library: PeerLibrary) -> ModelCopy:
        import torch

        model, loss_fn = self.problem.model, self.problem.loss_fn
        copied = copy.deepcopy(model).to(device, dtype)
        library.replaces(copied)
        loss = copy.deepcopy(loss_fn).to(device, dtype) if isinstance(loss_fn, torch.nn.Module) else loss_fn
        plain = replace(self.problem, model=copied, loss_fn=loss, example=None)
        own, prepared = plain.parameters(), library.prepare(copied)
        share_input_writes(model, copied)
        share_input_writes(model, prepared)
        share_output_axes(prepared, model)
        return ModelCopy(
            problem=replace(plain, model=prepared),
            parameters={
                name: own[name] for name in self.problem.parameters()
            },  # the library's layers have another order
            frozen=[
                *_beside(copied.named_parameters(remove_duplicate=False), model, "_parameters"),
                *_of_loss(loss, loss_fn, "_parameters"),
            ],
            buffers=[
                *_beside(copied.named_buffers(remove_duplicate=False), model, "_buffers"),
                *_of_loss(loss, loss_fn, "_buffers"),
            ],
        )

    def _sentence(self, error: Exception) -> str:
        said = next(iter(str(error).strip().splitlines()), "") or "no reason given"
        name = type(self.problem.model).__name__
        return f"{self.library.name} failed on {name} with {type(error).__name__}: {said}; take another kernel"


def _beside(copies: Iterable[tuple[str, Any]], model: Module, kind: str) -> list[tuple[Any, Slot]]:
    """Return tensors of the copy that are not trained, each with the place of the model's own."""
    mine = dict(copies)
    places = [
        (f"{prefix}.{name}".lstrip("."), (vars(module)[kind], name))
        for prefix, module in model.named_modules()
        for name, tensor in vars(module)[kind].items()
        if tensor is not None and not tensor.requires_grad
    ]
    return [(mine[name], place) for name, place in places]


def _of_loss(copied: Any, loss_fn: Any, kind: str) -> list[tuple[Any, Slot]]:
    """Return the tensors of a loss that is a module, all untrained here, each with the place of the caller's own."""
    if copied is loss_fn:
        return []
    pairs = zip(copied.modules(), loss_fn.modules(), strict=True)
    return [
        (tensor, (vars(own)[kind], name))
        for mine, own in pairs
        for name, tensor in vars(mine)[kind].items()
        if tensor is not None
    ]
