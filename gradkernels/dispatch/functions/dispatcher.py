"""A quantity of a JAX function's samples: by the fastest kernel that is proven on them, else by the next one."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from gradkernels.check import Disagreement
from gradkernels.dispatch.audit import AuditWarning, is_due
from gradkernels.dispatch.functions.proof import FunctionArrays, SampleProof, audit, built, few_of
from gradkernels.dispatch.functions.results import restored
from gradkernels.dispatch.functions.trial import by_trial, is_open
from gradkernels.dispatch.history import KernelHistory
from gradkernels.dispatch.keywords import by_name
from gradkernels.dispatch.request import Criteria, Request, request_like
from gradkernels.dispatch.select import Choice, choose, explain
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems import FunctionProblem
from gradkernels.quantities.shared.rules import WrongRule
from gradkernels.quantity import Quantity
from gradkernels.registry import kernels
from gradkernels.result_buffers import validate_out
from gradkernels.tree import Tree, count, leaves, structure
from gradkernels.validate import validate_inputs

MOST_KINDS = 256


@dataclass
class SettledKind:
    """What computes one kind of batch.

    Attributes:
        request: What is to be computed.
        kernel: What computes it.
        choice: By which it was chosen; None where the caller named it.
        failed: Kernels that cannot, or are wrong, with the reason.
        history: Calls and audits so far.
    """

    request: Request
    kernel: Kernel
    choice: Choice | None
    failed: dict[Kernel, str] = field(default_factory=dict)
    history: KernelHistory = field(default_factory=KernelHistory)


class FunctionDispatcher:
    """Computes one quantity of a JAX function's samples: `dispatcher(theta, x, y)`.

    Args:
        problem: The function.
        quantity: What is asked.
        forced: The kernel that the caller names; None for the fastest.
        criteria: What the kernel is chosen by.
    """

    def __init__(self, problem: FunctionProblem, quantity: Quantity, forced: Kernel | None, criteria: Criteria) -> None:
        self.problem, self.quantity, self.forced, self.criteria = problem, quantity, forced, criteria
        self._kinds: dict[Hashable, SettledKind] = {}
        self._last: SettledKind | None = None

    def __call__(self, theta: Any, x: Any, y: Any, *arguments: Any, **options: Any) -> Any:
        """Compute the quantity; theta may be None for the problem's own params."""
        given = self.problem.structured(by_name(self.quantity, arguments, options))
        arrays = self.problem.as_inputs(theta, x, y)
        known = self._settled(arrays)
        given = self.quantity.checked(given, count(arrays[2]), arrays[0], lambda *other: self._other(arrays, *other))
        if given.pop("out", None) is not None:
            validate_out(self.quantity, *arrays, options.get("out", arguments[0] if arguments else None))
        while True:
            try:
                result = built(known.kernel, self.problem)(*arrays, **given)
            except WrongRule:
                raise
            except Exception as fault:  # a function of other shapes may hold what a kernel cannot do
                if known.choice is None or known.kernel.backend.name == known.kernel.name:
                    raise
                known = self._settled_without(known, str(fault), arrays)
            else:
                if says := self._wrong(known, arrays, result):
                    known = self._settled_without(known, says, arrays)
                    known.history.calls = 1  # so that the next is audited in this very call
                    continue
                return restored(self.problem, self.quantity, result)

    def _wrong(self, known: SettledKind, arrays: FunctionArrays, result: Any) -> str:
        """Return what an audit finds wrong, nothing if it finds nothing or none is due.

        Args:
            known: What computed.
            arrays: Of the call.
            result: Of it.

        Raises:
            Disagreement: The kernel that the caller named is wrong.
        """
        known.history.calls += 1
        if known.history.calls == 1 or not is_due(known.history, changed=False) or any(map(_is_traced, leaves(arrays))):
            return ""  # the first call's kind was proven a moment ago
        if not count(arrays[2]):
            return ""
        known.history.audits += 1
        try:
            audit(known.request, known.kernel, arrays, result)
        except Disagreement as fault:
            if known.choice is None:
                raise
            warnings.warn(f"{fault}; the next kernel computes from now on", AuditWarning, stacklevel=4)
            return str(fault)
        return ""

    def prepare(self, theta: Any, x: Any, y: Any) -> None:
        """Choose and prove the kernel that would compute a batch.

        Args:
            theta: A pytree like params, or None for them.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        self._settled(self.problem.as_inputs(theta, x, y))

    def bare(self) -> Compute:
        """Return what `prepare` found, by itself: with no other kernel behind it."""
        known = self._last
        assert known is not None
        return FunctionDispatcher(self.problem, self.quantity, known.kernel, self.criteria)

    @property
    def kernel(self) -> Kernel | None:
        """What computed last, or would."""
        return None if self._last is None else self._last.kernel

    @property
    def choice(self) -> Choice | None:
        """By which it was chosen; None where the caller named it."""
        return None if self._last is None else self._last.choice

    @property
    def why(self) -> str:
        """Why the kernel that computed last did."""
        if self._last is None:
            return "nothing was computed yet"
        if self._last.choice is None:
            return f"{self._last.kernel.key}, because kernel= asked for it"
        return explain(self._last.request, self._last.choice)

    def _other(self, arrays: FunctionArrays, x: Any, y: Any) -> tuple[Tree, Tree]:
        x, y = self.problem.prepared(x, y)
        validate_inputs(self.problem, arrays[0], x, y)
        return x, y

    def _settled(self, arrays: FunctionArrays) -> SettledKind:
        if (renewed := self.problem.renewed()) is not self.problem:
            self.problem = renewed
            self._kinds.clear()
        kind = _kind_of(arrays)
        known = self._kinds.get(kind)
        if known is None or self.criteria.results is not None:
            if len(self._kinds) >= MOST_KINDS:
                self._kinds.clear()
            known = self._kinds[kind] = self._settle(arrays, {})
        self._last = known
        return known

    def _settled_without(self, known: SettledKind, says: str, arrays: FunctionArrays) -> SettledKind:
        """Settle a kind anew, by another kernel than before.

        Args:
            known: What computed it.
            says: Why it cannot.
            arrays: Of the call.
        """
        found = self._settle(arrays, known.failed | {known.kernel: says})
        self._kinds[_kind_of(arrays)] = self._last = found
        return found

    def _settle(self, arrays: FunctionArrays, failed: dict[Kernel, str]) -> SettledKind:
        """Choose a kernel and prove it on some of the samples; the next one where that fails.

        Args:
            arrays: Of the call.
            failed: Kernels that cannot, with the reason.

        Raises:
            ValueError: None can, with every reason; or samples have no gradients of their own.
        """
        if any(map(_is_traced, leaves(arrays))):
            raise ValueError(
                f"{self.quantity} of arrays of these shapes was not computed before, and a kernel is proven on "
                "numbers, of which jax.jit has none yet: call it once outside"
            )
        request = request_like(self.problem, self.quantity, arrays, self.criteria)
        proof = SampleProof(request, few_of(arrays))
        while True:
            choice = None if self.forced else choose(request, failed)
            kernel = self.forced or choice.kernel  # type: ignore[union-attr]
            if choice is None:
                proof.require(kernel)
            elif says := proof.fault(kernel):
                failed = failed | {kernel: says}
                continue
            elif is_open(choice, arrays):
                choice = self._tried(request, choice, failed, proof, arrays)
                kernel = choice.kernel
            return SettledKind(replace(request, arrays=None), kernel, choice, failed)

    def _tried(
        self, request: Request, choice: Choice, failed: dict[Kernel, str], proof: SampleProof, arrays: FunctionArrays
    ) -> Choice:
        """Return the choice of the fastest on this batch among those that do not take one sample after the other."""
        able = [
            one
            for one in kernels(self.problem, self.quantity)
            if not (one.loops or one in failed or one.unsupported(request.case))
        ]
        faults = {one: proof.fault(one) for one in able if one is not choice.kernel}
        choice = replace(choice, refused=(*choice.refused, *((one, says) for one, says in faults.items() if says)))
        proven = {one: built(one, self.problem) for one in able if not faults.get(one)}
        return by_trial(request, choice, proven, arrays) if len(proven) > 1 else choice


def _kind_of(arrays: FunctionArrays) -> Hashable:
    return structure(arrays), *((array.shape, array.dtype) for array in leaves(arrays))


def _is_traced(array: Any) -> bool:
    import jax

    return isinstance(array, jax.core.Tracer)
