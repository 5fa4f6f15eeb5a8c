"""A quantity of a module's samples: by the fastest kernel that is proven and fits, else by the next one.

What a kernel can do may depend on the batch: a branch on data, another length, one sample. So nothing is decided for
good: what raises is noted, the next kernel computes this call, and the first is tried again later.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.audited_call import AuditedCall
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.check.modules.verdicts import is_definition, require_proof, require_sample_gradients, set_aside
from gradkernels.dispatch.audit import audit_call, is_due, repeats_the_proof, warn_set_aside
from gradkernels.dispatch.keywords import by_name, with_keywords
from gradkernels.dispatch.kinds.seen_inputs import KnownInputs, SeenInputs
from gradkernels.dispatch.kinds.settled_calls import SettledCalls
from gradkernels.dispatch.memory_limit import MemoryLimit, TooSmall
from gradkernels.dispatch.request import Criteria, Request
from gradkernels.dispatch.select import Choice, choose, explain
from gradkernels.kernel import Compute, Kernel
from gradkernels.memory import is_out_of_memory, release
from gradkernels.problems.module.input_writes import counts_of, require_unwritten, tensors_in
from gradkernels.problems.module.random_state import preserved_rng
from gradkernels.quantities.shared.rules import WrongRule
from gradkernels.quantity import Quantity
from gradkernels.result_buffers import validate_out
from gradkernels.tree import Tree, count, leaves
from gradkernels.validate import validate_asked, validate_inputs

MOST_BUILT = 32
GivenOptions = dict[str, Any]
"""What a call is given besides theta, x and y, by name."""


class ModuleDispatcher:
    """Computes one quantity of a module's samples: `dispatcher(theta, x, y)`.

    Args:
        problem: Of a module.
        quantity: What is asked.
        forced: The kernel that the caller names; None for the fastest.
        criteria: What the kernel is chosen by, `threads` among it.

    Attributes:
        kernel: What computed last, with its settings, or would.
        choice: By which it was chosen; None where the caller named it.
        request: What was asked last.
    """

    def __init__(self, problem: Any, quantity: Quantity, forced: Kernel | None, criteria: Criteria) -> None:
        self.problem, self.quantity, self.forced, self.criteria = problem, quantity, forced, criteria
        self._lock = problem.lock()
        self._seen = SeenInputs(problem, quantity, forced, criteria)
        self._settled = SettledCalls()
        self._built: dict[Hashable, Compute] = problem.cache.setdefault("built", {})
        self._memory_limit = MemoryLimit(problem, criteria.max_bytes)
        self._state_before: Any = None
        self.kernel: Kernel | None = None
        self.choice: Choice | None = None
        self.request: Request | None = None

    def __call__(self, theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        """Compute the quantity; theta may be None for the model's own parameters."""
        given = by_name(self.quantity, arguments, options) if arguments or options else {}
        validate_asked(self.problem, self.quantity, y)
        x, y = self.problem.prepared(x, y)
        tensors = tensors_in((x, y))
        before = counts_of(tensors)
        # A module holds the parameters of one call at a time, its own between calls.
        with self._lock, self.problem.holding(theta) as theta:
            theta, known = self._seen.look_at(theta, x, y)
            given = self.quantity.checked(given, count(y), theta, partial(self._other_samples, theta, x))
            out = given.get("out")
            if out is not None:
                validate_out(self.quantity, theta, x, y, out)
            known.history.calls += 1
            changed, self._state_before = self._state_before not in (None, self._seen.state), self._seen.state
            result = self._result((theta, x, y), known, given, is_due(known.history, changed))
            if counts_of(tensors) != before:
                require_unwritten(self.problem.model, before, x, y, out)
            return result

    def _other_samples(self, theta: Tree, like: Tree, x: Tree, y: Tree) -> tuple[Tree, Tree]:
        x, y = self.problem.prepared(x, y)
        validate_inputs(self.problem, theta, x, y)
        has, wants = ([str(one.dtype) for one in leaves(tree)] for tree in (x, like))
        if has != wants:
            raise TypeError(f"x of other is {', '.join(has)}, x of the call {', '.join(wants)}; convert one of them")
        return x, y

    def prepare(self, theta: Tree, x: Tree, y: Tree) -> None:
        """Prove the kernel that would compute a batch.

        Args:
            theta: Parameters; None for the model's own.
            x: Inputs, samples first.
            y: Targets, samples first.
        """
        x, y = self.problem.prepared(x, y)
        with self._lock, self.problem.holding(theta) as theta:
            theta, known = self._seen.look_at(theta, x, y)
            self._compute(CallerBatch(self.problem, theta, x, y), known)

    def bare(self) -> Compute:
        """Return what `prepare` found, by itself: with no other kernel behind it, and never audited."""
        assert self.kernel is not None
        compute = with_keywords(self.kernel.build(self.problem), self.kernel, True)

        def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
            x, y = self.problem.prepared(x, y)
            with self._lock, self.problem.holding(theta) as theta:
                theta = self.problem.parameters() if theta is None else theta
                return compute(theta, x, y, *arguments, **options)

        return call

    @property
    def why(self) -> str:
        """Why the kernel that computed last did."""
        if self.kernel is None or self.request is None:
            return "nothing was computed yet"
        if self.choice is None:
            return f"{self.kernel.key}, because kernel= asked for it"
        said = explain(self.request, self.choice)
        if self.kernel != self.choice.kernel:
            said += f"\n  in chunks, {self.kernel.key}, to stay within max_bytes={self.criteria.max_bytes}"
        return said

    def _result(self, arrays: tuple[Tree, Tree, Tree], known: KnownInputs, given: GivenOptions, audited: bool) -> Any:
        """Compute by what is settled for inputs of this kind, if anything is, else by the first kernel that can."""
        settled = None if audited else self._settled.get(known)
        if settled is not None:
            self.problem.check_mixing(*arrays)
            self.kernel, self.choice, self.request = settled.kernel, settled.choice, known.request
            try:
                result = settled.compute(*arrays, **given)
            except Exception:  # as in `_first_that_can`, where the same kernel says it again
                self._settled.drop(known)
            else:
                known.history.unaudited += 1
                return result
        return self._compute(CallerBatch(self.problem, *arrays), known, given, audited)

    def _compute(
        self, batch: CallerBatch, known: KnownInputs, given: GivenOptions | None = None, audited: bool = False
    ) -> Any:
        """Compute as `_first_that_can`; torch's random numbers go on as if nothing else had drawn any."""
        drawing = nullcontext() if known.history.settled and not audited else preserved_rng(batch.theta)
        with drawing, self._memory_limit.few_blocks():
            return self._first_that_can(batch, known, given, audited)

    def _first_that_can(self, batch: CallerBatch, known: KnownInputs, given: GivenOptions | None, audited: bool) -> Any:
        """Return the result of the first kernel that can; without a call only the kernel is found."""
        tried: dict[Kernel, str] = {}
        self.request = known.request
        require_sample_gradients(known.kind, batch)
        if given is not None:
            self.problem.check_mixing(batch.theta, batch.x, batch.y)
        while True:
            choice = self._choose(known, tried)
            if choice is not None and given is not None:
                history = known.history
                choice = history.trials.apply(choice, known.request, history.calls, history.excluded() | tried)
            kernel = self.forced if choice is None else choice.kernel
            assert kernel is not None
            try:
                fitting, result = self._try(kernel, batch, known, given, audited)
            except WrongRule:  # the caller's, whatever kernel asks for it
                raise
            except Exception as fault:  # whatever it is: another kernel may do
                if is_out_of_memory(fault) and release():
                    continue  # with what was kept between calls
                # What one sample at a time raises is the model's own, and would be raised by all others.
                if choice is None or (is_definition(kernel) and not isinstance(fault, TooSmall | Disagreement)):
                    raise
                tried[kernel] = known.history.note(kernel, fault)
                continue
            if choice is not None and tried:
                refused = [(one, tried.get(one, says)) for one, says in choice.refused]
                choice = replace(choice, refused=tuple(refused))
            known.history.failed.pop(kernel, None)
            known.history.unaudited = 0 if audited else known.history.unaudited + (given is not None)
            self.kernel, self.choice = fitting, choice
            if given is not None:
                ready = with_keywords(self._build(fitting, known.kind), fitting, True, validated=True)
                self._settled.settle(known, self.problem, fitting, choice, ready)
            return result

    def _try(
        self, kernel: Kernel, batch: CallerBatch, known: KnownInputs, given: GivenOptions | None, audited: bool
    ) -> tuple[Kernel, Any]:
        """Return the kernel, in chunks where there is a limit of memory, and its result, proven and audited."""
        options = {name: value for name, value in (given or {}).items() if name != "out"}
        fitting = self._memory_limit.fit(kernel, known.request.case, batch, known.shapes, options)
        compute = self._build(fitting, known.kind)
        tight = self.criteria.max_bytes is not None
        just_proven = count(batch.y) > 0 and require_proof(fitting, known.kind, batch, compute, tight=tight)
        if given is None:
            return fitting, None
        compute_it = with_keywords(compute, fitting, True, validated=True)
        ready = partial(compute_it, batch.theta, batch.x, batch.y, **given)
        trial = known.history.trials.at(known.request)
        result = ready() if trial is None else trial.timed(kernel, known.request.case.device, ready)
        if audited and not (just_proven and repeats_the_proof(fitting)):
            settings = {name: value for name, value in given.items() if name != "out"}
            self._audit(known, AuditedCall(fitting, compute, batch, settings, result))
        return fitting, result

    def _audit(self, known: KnownInputs, call: AuditedCall) -> None:
        """Hold the result against single samples; a kernel that failed is set aside, with one warning."""
        try:
            audit_call(call, known.history)
        except Disagreement as fault:
            if self.forced is None:
                set_aside(call.kernel, known.kind, self.problem, str(fault))
                warn_set_aside(known.history, call.kernel, fault)
            raise

    def _choose(self, known: KnownInputs, tried: dict[Kernel, str]) -> Choice | None:
        if self.forced is not None:
            return None
        history, request = known.history, known.request
        excluded = history.excluded() | tried
        try:
            if self.criteria.results is not None:  # the file may have changed
                return choose(request, excluded)
            return history.choice((known.size, frozenset(excluded)), lambda: choose(request, excluded))
        except ValueError:
            if history.excluded().keys() - history.wrong.keys() - tried.keys():
                history.failed.clear()  # what waits to be tried again is all that there is
                return self._choose(known, tried)
            raise

    def _build(self, kernel: Kernel, kind: Hashable) -> Compute:
        """Build the kernel for the problem as it is; what it is built for may be a part of it."""
        key = (kernel, kind)
        if key not in self._built:
            if len(self._built) >= MOST_BUILT:
                del self._built[next(iter(self._built))]
            self._built[key] = kernel.build(self.problem)
        return self._built[key]
