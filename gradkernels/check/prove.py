"""The proof: a kernel computes what it says, or `Disagreement` says where and by how much it does not.

Tolerance: an entry may differ from the float64 reference by 8 sqrt(m) u times its rounding scale, with u the unit
roundoff of the dtype and m the number of roundings that add up in it. m independent roundings of size u add up
to at most lambda sqrt(m) u with probability 1 - 2 exp(-lambda^2 / 2) (Higham & Mary 2019, SIAM J. Sci. Comput.
41(5), theorem 2.4); lambda = 8 leaves 3e-14. For one feature that is 2e-15 (float64) and 1e-6 (float32) for a
row, 9e-13 and 5e-4 for a mean over 10^6 rows. The scale (`Truth.scale`) is the size of the terms before they
cancel, so that a residual near zero is not held to digits that no kernel can have. That is the default of
`Problem.tolerance`; a module allows 1e-10 (float64) and 1e-4 (float32) of a row's norm instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gradkernels.case import Case, Inputs
from gradkernels.check.call_options import arrays_in, given, needed, proving
from gradkernels.check.compare_arrays import Disagreement as Disagreement
from gradkernels.check.compare_arrays import compare_entries
from gradkernels.check.identities import identities
from gradkernels.check.reference import Expected, Reference
from gradkernels.check.side_effects import prime_with_other_data, require_unaliased, require_unchanged
from gradkernels.check.structure import conforming, entry_namer
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems import Regression
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import Options
from gradkernels.tree import Tree, count, each, leaves, take

FAR_SAMPLES = 8
SAMPLES_AT_ONCE = 16
"""Samples whose rows are looked at closely before a result is compared again."""


@dataclass(frozen=True)
class Proof:
    """A passed check.

    Attributes:
        error: Worst error of an entry, relative to its rounding scale.
        tolerance: What was allowed.
    """

    error: float
    tolerance: float


def prove(
    kernel: Kernel,
    compute: Compute,
    case: Case,
    inputs: Inputs | None = None,
    reference: Reference | None = None,
) -> Proof:
    """Prove a compute that is built already, so that the very function that is timed is proven.

    Args:
        kernel: Whose compute it is.
        compute: What `kernel.build` returned for the case's problem.
        case: What to compute.
        inputs: numpy arrays `(theta, x, y)`; None for `case.draw()`.
        reference: The reference for these inputs; None to compute it.
    """
    inputs = case.draw() if inputs is None else inputs
    case.require(inputs)
    reference = Reference(case.problem, *inputs) if reference is None else reference
    reference = reference.of_outputs if case.quantity.of_outputs else reference
    # Data may hold NaN, infinity or numbers that overflow: that is compared here, not warned about.
    with np.errstate(all="ignore"), kernel.backend.arrays.fresh_arrays():
        arrays, intact = prime_with_other_data(kernel, compute, case, inputs, needed(case, inputs, kernel.backend))
        few = partial(_prove_on_few, kernel, compute, case, inputs)
        proofs = [
            _verify(call(), options, reference, case, f"{kernel.key}{label}", few, y=inputs[2])
            for label, call, options in _calls(kernel, compute, case, inputs, reference, arrays)
        ]
        intact()
    return max(proofs, key=lambda proof: proof.error)


def endure(kernel: Kernel, compute: Compute, case: Case) -> None:
    """Hold a kernel to the reference where squares of its rows leave the range of the case's dtype.

    Args:
        kernel: What is proven.
        compute: What `kernel.build` returned for the case's problem.
        case: Its dtype and number of features count, and n up to 8.

    Raises:
        Disagreement: It is wrong there. A ValueError of its own, by which it refuses such data, is none.
    """
    n, problem = min(case.n, FAR_SAMPLES), case.problem
    # Squares leave the range themselves.
    if case.quantity.squares or not isinstance(problem, Regression):
        return
    far = replace(case, n=n)
    for drawn in problem.extremes(n, case.dtype, case.features):
        inputs = far.cast(drawn)
        arrays = kernel.backend.put(each(lambda array: array.copy(order="K"), inputs), case.device)
        with np.errstate(all="ignore"), kernel.backend.arrays.fresh_arrays():
            reference = Reference(problem, *inputs)
            for label, call, options in _calls(kernel, compute, far, inputs, reference, arrays):
                try:
                    result = call()
                except ValueError:
                    break
                _verify(result, options, reference, far, f"{kernel.key}{label} at the ends of the range")


def _calls(
    kernel: Kernel, compute: Compute, case: Case, inputs: Inputs, reference: Reference, arrays: Inputs
) -> Iterator[tuple[str, Callable[[], Any], Options]]:
    """Yield the calls that prove a kernel, each with the quantity's options; all on `arrays`, which hold `inputs`."""

    def call(options: Options, **into: Any) -> Any:
        taken = given(case.quantity, options, kernel.backend, case.device)
        result = kernel.backend.wait(compute(*arrays, **taken, **into))
        require_unchanged(kernel, arrays, inputs, (arrays_in(taken), arrays_in(options)))
        require_unaliased(kernel, case, result, (*arrays, *arrays_in(taken)))
        return result

    # Before any call: the reference finds out that a model writes to its inputs.
    norms = reference.norms
    for says, options in proving(case, inputs, norms):
        yield says, partial(call, options), options
        if kernel.out and not says:
            yield " with out=", partial(_into, kernel, case, inputs, partial(call, options)), options


def _into(kernel: Kernel, case: Case, inputs: Inputs, call: Callable[..., Any]) -> Any:
    blank = case.quantity.blank(count(inputs[2]), inputs[0], output_axes(case.quantity, inputs[2]) or None)
    out = kernel.backend.put(each(lambda part: np.full(part.shape, np.nan, case.dtype), blank), case.device)
    if call(out=out) is not out:
        raise Disagreement(f"{kernel.key}: out= was given but is not what came back")
    return out


def _prove_on_few(kernel: Kernel, compute: Compute, case: Case, inputs: Inputs, options: Options) -> None:
    """Hold the kernel to some of the samples, where it is cheap to know how well their rows can be known.

    Args:
        kernel: What seemed wrong.
        compute: What `kernel.build` returned for the case's problem.
        case: What to compute of all samples.
        inputs: All of them, numpy arrays.
        options: Of the call.
    """
    if kernel.compiles or isinstance(case.problem, Regression) or case.n <= 2 * SAMPLES_AT_ONCE:
        return
    theta, *data = inputs
    chosen = np.linspace(0, case.n - 1, SAMPLES_AT_ONCE).astype(int)
    some, options = (theta, *take(tuple(data), chosen)), case.quantity.part(options, chosen)
    arrays = kernel.backend.put(each(lambda array: array.copy(order="K"), some), case.device)
    taken = given(case.quantity, options, kernel.backend, case.device)
    result = kernel.backend.wait(compute(*arrays, **taken))
    few = replace(case, n=SAMPLES_AT_ONCE)
    _verify(result, options, Reference(case.problem, *some), few, f"{kernel.key} for some of the samples")


def _verify(
    result: Any,
    options: Options,
    reference: Reference,
    case: Case,
    label: str,
    few: Callable[[Options], None] = lambda options: None,
    y: Tree = None,
) -> Proof:
    """Compare a result; where samples disagree, ask how well their rows can be known and compare again.

    Args:
        result: What a kernel returned.
        options: Of the call.
        reference: What it is held to.
        case: What was computed.
        label: Start of the message.
        few: Called with the options before all samples of a sum are asked about, in five passes each; may raise.
        y: Targets of the call, where they are not those of the reference.
    """
    where = f"{label} on {case.problem.name}, n={case.n}, {case.dtype}"
    found = conforming(result, case, reference.theta, reference.y if y is None else y, where, options)
    if case.quantity.of_outputs:
        found = found.reshape(count(reference.y), found.shape[-1])
    asked = np.zeros(count(reference.y), bool)
    while True:
        expected = reference.expect(case.quantity, **options)
        allowed = case.problem.tolerance(case.dtype, expected.terms)
        try:
            return _compare(found, expected, allowed, reference, case, where)
        except Disagreement:
            off = _samples_off(found, expected, allowed) if case.quantity.by_sample else np.ones_like(asked)
            ask = np.flatnonzero(off)[: SAMPLES_AT_ONCE if case.quantity.by_sample else None]
            if not case.quantity.by_sample and not asked.any():
                few(options)
            if not ask.size or asked[off].any() or not (more := reference.with_errors(ask, allowed, case.dtype)):
                raise
            reference = more
            asked[ask] = True


def _samples_off(found: Any, expected: Expected, allowed: float) -> Any:
    """Tell which samples of a result disagree, `(n,)`; what is not finite is compared elsewhere."""
    off = np.abs(found - expected.value) > allowed * expected.scale
    return off.reshape(len(off), -1).any(1)


def _compare(found: Any, expected: Expected, allowed: float, reference: Reference, case: Case, where: str) -> Proof:
    tell = entry_namer(reference.theta)
    errors = [
        compare_entries(values, want, scale, allowed, where, tell)
        for values, want, scale in zip(*map(leaves, (found, expected.value, expected.scale)), strict=True)
    ]
    # One more rounding per sample for the sums on the identities' left-hand sides.
    tolerance = case.problem.tolerance(case.dtype, expected.terms + case.n)
    for identity in identities(case.quantity.name, found, reference):
        # Where infinities cancel on one side only, both are not finite, each in its own way.
        left, right = (np.where(np.isfinite(side), side, np.nan) for side in (identity.left, identity.right))
        compare_entries(left, right, identity.scale, tolerance, f"{where}: {identity.says}", tell)
    return Proof(max(errors), allowed)
