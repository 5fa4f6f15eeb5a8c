"""The inputs that one dispatcher has seen: validated once for each combination of shapes, and sorted into kinds."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from gradkernels.case import Case
from gradkernels.check.modules.verdicts import proof_kind
from gradkernels.dispatch.history import KernelHistory, history_of
from gradkernels.dispatch.memory_limit import MOST_SHAPES
from gradkernels.dispatch.request import Criteria, Request, signature
from gradkernels.kernel import Kernel
from gradkernels.quantity import Quantity
from gradkernels.tree import Tree, count, leaves, structure
from gradkernels.validate import device_of, dtype_of, validate_inputs


@dataclass(frozen=True)
class KnownInputs:
    """What is known of inputs of the same shapes.

    Attributes:
        history: How kernels did on their kind.
        kind: What a proof holds for.
        shapes: Their structure, shapes, dtypes and devices, and what the model was like.
        request: What is to be computed of them.
        size: What tells numbers of samples apart that kernels are chosen for: a power of two.
    """

    history: KernelHistory
    kind: Hashable
    shapes: Hashable
    request: Request
    size: int


class SeenInputs:
    """The inputs of one quantity of a module's samples.

    Args:
        problem: Of a module.
        quantity: What is asked.
        forced: The kernel that the caller names; None for the fastest.
        criteria: What the kernel is chosen by.

    Attributes:
        state: What the model was at the last look, and which tensors it had.
    """

    def __init__(self, problem: Any, quantity: Quantity, forced: Kernel | None, criteria: Criteria) -> None:
        self._problem, self._quantity, self._forced, self._criteria = problem, quantity, forced, criteria
        self._known: dict[Hashable, KnownInputs] = {}
        self._own: tuple[Any, dict[str, Any]] = None, {}
        self.state: Any = None
        self._tensor = import_module("torch").Tensor

    def look_at(self, theta: Tree, x: Tree, y: Tree) -> tuple[dict[str, Any], KnownInputs]:
        """Return the parameters and what is known of inputs of these shapes, which are validated where they are new.

        Args:
            theta: Parameters; None for the model's own.
            x: Inputs, prepared.
            y: Targets, prepared.
        """
        mode_key = self._problem.mode_key()
        self.state = mode_key.watched
        shapes: Hashable
        if theta is None and type(x) is type(y) is self._tensor:  # as most are, told in less time
            shapes = (mode_key.kind, None, x.shape, x.dtype, x.device, y.shape, y.dtype, y.device)
        else:
            trees = (theta, x, y)
            shapes = (mode_key.kind, structure(trees), *map(signature, leaves(trees)))
        theta = self._own_parameters(mode_key) if theta is None else theta
        known = self._known.get(shapes)
        if known is None:
            if len(self._known) >= MOST_SHAPES:
                self._known.clear()
            known = self._known[shapes] = self._validated(mode_key, theta, x, y, shapes)
        return theta, known

    def _own_parameters(self, mode_key: Any) -> dict[str, Any]:
        """Return the model's own parameters, which are the same tensors as long as its key is the same object."""
        if mode_key is not self._own[0]:
            self._own = mode_key, self._problem.parameters()
        return dict(self._own[1])

    def _validated(self, mode_key: Any, theta: Tree, x: Tree, y: Tree, shapes: Hashable) -> KnownInputs:
        problem, forced, criteria = self._problem, self._forced, self._criteria
        library = validate_inputs(problem, theta, x, y)
        if count(y) == 0 and self._quantity.averages:
            raise ValueError(f"x has n = 0 samples; {self._quantity} divides by n and needs at least 1")
        kind = proof_kind(problem, mode_key, theta, x, y)
        first = leaves(theta)[0]
        case = Case(problem, self._quantity, max(count(y), 1), dtype_of(first), device_of(first),
                    criteria.threads or 1, features=max(1, problem.features(x)))  # fmt: skip
        if forced is not None and (reasons := forced.unsupported(case)):
            raise ValueError(f"{forced.key} cannot do this: {'; '.join(reasons)}")
        # Of a module no choice depends on the memory that it may take, which can be another at each call.
        asked = (self._quantity, forced, replace(criteria, max_bytes=None))
        history, request = history_of(problem.model, (*asked, kind)), Request(case, library, criteria)
        return KnownInputs(history, kind, shapes, request, case.n.bit_length())
