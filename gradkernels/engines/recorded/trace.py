"""A function of tensors as a graph of operations, after vmap and grad have been applied: what is left to compile.

torch.compile reads Python itself, and does not follow recurrent layers, swapped parameters and much else that a model
may do. Running the function once on tensors without data records the same operations whatever the Python is. The
recording has no `if`: what it depends on besides its arguments is what a kernel is built for.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import DRAWS_RANDOM
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.structure import Slot
from gradkernels.tree import Tree

LOOKS_AT_DATA = "the model's Python asks what its data hold, as for a branch, and a recording cannot"


class Untraceable(RuntimeError):
    """Why a function cannot be recorded, as a sentence."""


def trace_operations(function: Callable[..., Any], *arrays: Tree) -> Callable[..., Any]:
    """Record the operations of `function(*arrays)`, for arrays of these shapes.

    Raises:
        Untraceable: It cannot be recorded, or a recording would not do the same again.
    """
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.nn.attention import SDPBackend, sdpa_kernel

    before = drawn_by_python()
    try:
        # The fused kernels of attention know no vmap over their gradient and would be called once per sample.
        with sdpa_kernel(SDPBackend.MATH):
            graph: Any = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arrays)
    except Exception as error:
        # Whatever the model's own Python raises.
        raise Untraceable(_sentence(error)) from error
    if drawn := [node.name for node in graph.graph.nodes if node_draws_random(node)]:
        raise Untraceable(f"{DRAWS_RANDOM} ({drawn[0]})")
    if drawn_by_python() != before:
        raise Untraceable("the model draws random numbers of Python or numpy, which would be the same ones again")
    recording: Callable[..., Any] = graph
    return recording


def drawn_by_python() -> tuple[int, int]:
    """Return a fingerprint of the states of Python's and numpy's random numbers."""
    state: Any = np.random.get_state()  # noqa: NPY002  # what a model may draw from, whether it should or not
    return hash(random.getstate()), hash((state[1].tobytes(), *state[2:]))


def _sentence(error: Exception) -> str:
    from gradkernels.engines.hooks.capture.follow.indexing import NOT_KEPT

    said = str(error)
    if "data-dependent" in said:
        return LOOKS_AT_DATA
    if NOT_KEPT in said:  # or so it is said of indices whose values are unknown
        return "the model picks entries by indices, and in a recording it is unknown which samples they are of"
    return DRAWS_RANDOM if "called random operation" in said else said


def node_draws_random(node: Any) -> bool:
    """Return whether a node of a graph draws torch's random numbers: attention without dropout does not."""
    return draws_numbers(node.target, node.args, node.kwargs)


def draws_numbers(operation: Any, args: Any, kwargs: Any) -> bool:
    """Return whether an operation draws torch's random numbers, with these arguments.

    Args:
        operation: What a graph calls.
        args: By position.
        kwargs: By name.
    """
    import torch

    if torch.Tag.nondeterministic_seeded not in getattr(operation, "tags", ()):
        return False
    given = {one.name: one.default_value for one in operation._schema.arguments}
    given |= dict(zip(given, args, strict=False)) | kwargs
    return given.get("dropout_p") != 0.0


def untrained_tensors(problem: ModuleProblem) -> dict[str, Any]:
    """Return buffers and frozen parameters by place, each tensor once: arguments, since their values may change.

    Those of the model, and of the loss if it is a module.
    """
    names: dict[int, str] = {}
    return {
        place: tensor
        for prefix, _, name, tensor in untrained_slots(problem)
        if names.setdefault(id(tensor), place := f"{prefix}.{name}") == place
    }


def untrained_slots(problem: ModuleProblem) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    """Yield buffers and frozen parameters: the place of the module, its dict of them, the name in that, the tensor."""
    trained = {id(tensor) for tensor in problem.parameters().values()}
    loss = problem.loss_fn.named_modules(prefix="loss_fn()") if hasattr(problem.loss_fn, "named_modules") else ()
    for prefix, module in itertools.chain(problem.model.named_modules(), loss):
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None and id(tensor) not in trained:
                    yield prefix, kept, name, tensor


class Untrained:
    """The buffers and frozen parameters of a problem's model and loss, each tensor once, found again at each call.

    Args:
        problem: Whose model.
    """

    def __init__(self, problem: ModuleProblem) -> None:
        self._problem = problem
        self._state: Any = None
        self._slots: dict[str, Slot] = {}
        self._tied: list[tuple[Slot, Slot]] = []

    def __call__(self, state: Any) -> dict[str, Array]:
        """Return them by place.

        Args:
            state: The key of the model as it is; with the same one there are no others in other places.
        """
        if state is not self._state or any(kept[name] is not other[own] for (kept, name), (other, own) in self._tied):
            self._find()
            self._state = state
        return {place: kept[name] for place, (kept, name) in self._slots.items()}

    def _find(self) -> None:
        """Walk over the modules."""
        first: dict[int, Slot] = {}
        self._slots, self._tied = {}, []
        for prefix, kept, name, tensor in untrained_slots(self._problem):
            if id(tensor) in first:
                self._tied.append((first[id(tensor)], (kept, name)))
            else:
                first[id(tensor)] = self._slots[f"{prefix}.{name}"] = kept, name


_WEIGHT_REFERENCES = "_flat_weight_refs"
"""What torch's recurrent layers keep of the weights that they hold: another list whenever parameters are exchanged."""


@contextmanager
def restoring_attributes(problem: ModuleProblem) -> Iterator[set[str]]:
    """Give the model back its attributes after the context: a recording leaves tensors without data in them.

    Yields:
        A set that will hold the names of those that were changed.
    """
    before = [(vars(module), dict(vars(module))) for module in problem.model.modules()]
    changed: set[str] = set()
    try:
        yield changed
    finally:
        for now, kept in before:
            names = (now.keys() | kept.keys()) - {_WEIGHT_REFERENCES}
            changed |= {name for name in names if not _same(now.get(name), kept.get(name))}
            now.clear()
            now.update(kept)


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in (int, float, str, tuple) and one == other)


@contextmanager
def holding_untrained(problem: ModuleProblem, rest: dict[str, Any]) -> Iterator[None]:
    """Have model and loss hold `rest` instead of their own buffers and frozen parameters within the context."""
    before = list(untrained_slots(problem))
    given = {id(tensor): rest[f"{prefix}.{name}"] for prefix, _, name, tensor in before if f"{prefix}.{name}" in rest}
    try:
        for _, kept, name, tensor in before:
            kept[name] = given[id(tensor)]
        yield
    finally:
        for _, kept, name, tensor in before:
            kept[name] = tensor
