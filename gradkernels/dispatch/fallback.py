"""A quantity of a module's samples: by the fastest kernel that is proven and fits, else by the next one.

What a kernel can do may depend on the batch: a branch on data, another length, one sample. So nothing is decided for
good: what raises is noted, the next kernel computes this call, and the first is tried again later.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from gradkernels.case import Case
from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.check.modules.verdicts import (
    is_definition,
    proof_kind,
    require_proof,
    require_sample_gradients,
    set_aside,
)
from gradkernels.dispatch.audit import Call, is_due, require_right, tells_no_more_than_a_proof, warn_set_aside
from gradkernels.dispatch.calling import with_keywords
from gradkernels.dispatch.candidates import Standing, Wants, standing
from gradkernels.dispatch.chunks import MOST_SHAPES, Limited
from gradkernels.dispatch.memory_limit import TooSmall
from gradkernels.dispatch.select import Choice, Request, choose, explain
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems.module.input_writes import require_unwritten, versions
from gradkernels.problems.module.structure import preserved_rng
from gradkernels.tree import Tree, count, leaves, structure
from gradkernels.validate import device_of, dtype_of, validate_inputs, validate_out

MOST_BUILT = 32


class Detour:
    """Computes what is wanted of a problem.

    Args:
        problem: Of a module.
        wants: What.

    Attributes:
        kernel: What computed last, with its settings, or would.
        choice: By which it was chosen; None where the caller named it.
        request: What was asked last.
    """

    def __init__(self, problem: Any, wants: Wants) -> None:
        self.problem, self.wants = problem, wants
        self._turn = problem.lock()
        self._seen: dict[Hashable, tuple[Standing, Hashable]] = {}
        self._built: dict[Hashable, Compute] = problem.cache.setdefault("built", {})
        self._limited = Limited(problem, wants.max_bytes)
        self._watched: Any = None
        self._now: Any = None
        self.kernel: Kernel | None = None
        self.choice: Choice | None = None
        self.request: Request | None = None

    def __call__(self, theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        """The quantity; theta may be None for the model's own parameters."""
        x, y = self.problem.prepared(x, y)
        before = versions((x, y))
        # A module holds the parameters of one call at a time, its own between calls.
        with self._turn:
            batch, now, kind, shapes = self._looked_at(theta, x, y)
            given = options.get("out", arguments[0] if arguments and self.wants.quantity.writable else None)
            if given is not None:
                validate_out(self.wants.quantity, batch.theta, x, y, given)
            now.calls += 1
            changed, self._watched = self._watched not in (None, self._now), self._now
            result = self._computed(batch, now, kind, shapes, arguments, options, is_due(now, changed))
            if versions((x, y)) != before:
                require_unwritten(self.problem.model, before, x, y, given)
            return result

    def prepare(self, theta: Tree, x: Tree, y: Tree) -> None:
        """Prove the kernel that would compute such a batch."""
        x, y = self.problem.prepared(x, y)
        with self._turn:
            self._computed(*self._looked_at(theta, x, y))

    def bare(self) -> Compute:
        """What `prepare` found, by itself: with no other kernel behind it, and never audited."""
        assert self.kernel is not None
        compute = with_keywords(self.kernel.build(self.problem), self.kernel, True)

        def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
            x, y = self.problem.prepared(x, y)
            with self._turn:
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
            said += f"\n  in chunks, {self.kernel.key}, to stay within max_bytes={self.wants.max_bytes}"
        return said

    def _looked_at(self, theta: Tree, x: Tree, y: Tree) -> tuple[CallerBatch, Standing, Hashable, Hashable]:
        """The batch, how kernels stand for its kind, the kind, and its shapes; validated where they are new."""
        problem, stamp = self.problem, self.problem.mode_key()
        self._now = stamp.watched
        trees = (theta, x, y)
        shapes = (stamp.kind, structure(trees), *map(_signature, leaves(trees)))
        theta = problem.parameters() if theta is None else theta
        if shapes not in self._seen:
            if len(self._seen) >= MOST_SHAPES:
                self._seen.clear()
            self._seen[shapes] = self._new(stamp, theta, x, y)
        now, kind = self._seen[shapes]
        return CallerBatch(problem, theta, x, y), now, kind, shapes

    def _new(self, stamp: Any, theta: Tree, x: Tree, y: Tree) -> tuple[Standing, Hashable]:
        problem, wants = self.problem, self.wants
        library = validate_inputs(problem, theta, x, y)
        if count(y) == 0 and wants.quantity.averages:
            raise ValueError(f"x has n = 0 samples; {wants.quantity} divides by n and needs at least 1")
        kind = proof_kind(problem, stamp, theta, x, y)
        first = leaves(theta)[0]
        case = Case(problem, wants.quantity, max(count(y), 1), dtype_of(first), device_of(first), wants.threads,
                    features=max(1, problem.features(x)))  # fmt: skip
        self.request = Request(case, library, wants.results, wants.max_bytes, wants.calls)
        if wants.forced is not None and (reasons := wants.forced.unsupported(case)):
            raise ValueError(f"{wants.forced.key} cannot do this: {'; '.join(reasons)}")
        # Of a module no choice depends on the memory that it may take, which can be another at each call.
        return standing(problem.model, (replace(wants, max_bytes=None), kind)), kind

    def _computed(
        self,
        batch: CallerBatch,
        now: Standing,
        kind: Hashable,
        shapes: Hashable,
        arguments: Any = (),
        options: dict[str, Any] | None = None,
        audited: bool = False,
    ) -> Any:
        """As `_found`; torch's random numbers go on as if what is done besides computing had drawn none."""
        with nullcontext() if now.settled and not audited else preserved_rng(batch.theta):
            return self._found(batch, now, kind, shapes, arguments, options, audited)

    def _found(
        self,
        batch: CallerBatch,
        now: Standing,
        kind: Hashable,
        shapes: Hashable,
        arguments: Any,
        options: dict[str, Any] | None,
        audited: bool,
    ) -> Any:
        """The result of the first kernel that can; without options only the kernel is found."""
        tried: dict[Kernel, str] = {}
        require_sample_gradients(kind, batch)
        if options is not None:
            self.problem.check_mixing(batch.theta, batch.x, batch.y)
        while True:
            choice = self._choice(now, batch, tried)
            kernel = self.wants.forced if choice is None else choice.kernel
            assert kernel is not None
            assert self.request is not None
            try:
                fitting = self._limited.within(kernel, self.request.case, batch, shapes)
                compute = self._compute(fitting, kind)
                just = count(batch.y) > 0 and require_proof(
                    fitting, kind, batch, compute, tight=self.wants.max_bytes is not None
                )
                call = with_keywords(compute, fitting, True)
                result = None if options is None else call(batch.theta, batch.x, batch.y, *arguments, **options)
                if audited and not (just and tells_no_more_than_a_proof(fitting)):
                    self._audited(now, kind, Call(fitting, compute, batch, _besides(options), result))
            except Exception as fault:  # whatever it is: another kernel may do
                # What one sample at a time raises is the model's own, and would be raised by all others.
                if choice is None or (is_definition(kernel) and not isinstance(fault, TooSmall | Disagreement)):
                    raise
                tried[kernel] = self._noted(now, kernel, fault)
                continue
            if choice is not None and tried:
                refused = [(one, tried.get(one, says)) for one, says in choice.refused]
                choice = replace(choice, refused=tuple(refused))
            now.misses.pop(kernel, None)
            self.kernel, self.choice = fitting, choice
            now.unaudited = 0 if audited else now.unaudited + (options is not None)
            return result

    def _audited(self, now: Standing, kind: Hashable, call: Call) -> None:
        """Hold the result against single samples; a kernel that failed is set aside, with one warning."""
        try:
            require_right(call, now)
        except Disagreement as fault:
            if self.wants.forced is None:
                set_aside(call.kernel, kind, self.problem, str(fault))
                warn_set_aside(now, call.kernel, fault)
            raise

    def _noted(self, now: Standing, kernel: Kernel, fault: Exception) -> str:
        if isinstance(fault, TooSmall):
            return str(fault)
        says = f"{type(fault).__name__}: {next(iter(str(fault).splitlines()), '')}"
        if isinstance(fault, Disagreement):
            now.aside[kernel] = says
        else:
            now.missed(kernel, says)
        return says

    def _choice(self, now: Standing, batch: CallerBatch, tried: dict[Kernel, str]) -> Choice | None:
        if self.wants.forced is not None:
            return None
        excluded = now.excluded() | tried
        assert self.request is not None
        n = max(count(batch.y), 1)
        request = self.request = replace(self.request, case=replace(self.request.case, n=n))
        key = (n.bit_length(), frozenset(excluded))
        try:
            if self.wants.results is not None:  # the file may have changed
                return choose(request, excluded)
            return now.chosen(key, lambda: choose(request, excluded))
        except ValueError:
            if now.excluded().keys() - now.aside.keys() - tried.keys():
                now.misses.clear()  # what waits to be tried again is all that there is
                return self._choice(now, batch, tried)
            raise

    def _compute(self, kernel: Kernel, kind: Hashable) -> Compute:
        """The kernel, built for the problem as it is; what it is built for may be a part of it."""
        key = (kernel, kind)
        if key not in self._built:
            if len(self._built) >= MOST_BUILT:
                del self._built[next(iter(self._built))]
            self._built[key] = kernel.build(self.problem)
        return self._built[key]


def _besides(options: dict[str, Any] | None) -> dict[str, Any]:
    """What a call was given besides data and memory."""
    return {name: float(value) for name, value in (options or {}).items() if name != "out"}


def _signature(leaf: Any) -> Any:
    return type(leaf), *(getattr(leaf, name, None) for name in ("shape", "dtype", "device"))
