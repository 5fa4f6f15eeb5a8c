"""The proof that a kernel computes a module's gradients: two calls on a few samples, held against single passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.check.modules.choose_check import result_check
from gradkernels.check.modules.held_passes import held_passes
from gradkernels.check.modules.result_checks import ResultCheck
from gradkernels.check.modules.result_structure import require_structure
from gradkernels.check.modules.sample_passes import CallerBatch, require_agreement
from gradkernels.check.side_effects import require_same_state
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems.module.input_writes import write_counts
from gradkernels.quantities.shared.outputs import output_axes
from gradkernels.quantity import Draw, Options, Quantity
from gradkernels.tree import count, leaves

CheckedCall = tuple[Any, Sequence[int], Options]
"""A result, the places of the samples in it, and the options that it was computed with."""


def prove_on_samples(
    kernel: Kernel, compute: Compute, sample: CallerBatch, backwards: bool = True, tight: bool = False
) -> None:
    """Call a kernel twice, first on the samples in reverse order, and compare both results.

    Args:
        kernel: What is proven.
        compute: The kernel, built.
        sample: The samples.
        backwards: Whether the model takes them in reverse order.
        tight: Whether one result at a time is to be in memory, which takes twice the passes.

    Raises:
        Disagreement: A result is wrong, or the kernel changed its inputs, the model or an earlier result.
    """
    sample = replace(sample, theta=_nowhere_zero(sample.theta))
    n, problem, data = count(sample.y), sample.problem, (sample.theta, sample.x, sample.y)
    state, written = problem.state(), write_counts(data)
    order = range(n)[::-1] if backwards else range(n)
    options = _options(kernel.quantity, sample)
    turned, own = sample.of(order), kernel.quantity.part(options[0], np.asarray(order))
    first = (_computed(kernel, compute, turned, own), order, options[0])

    def second() -> CheckedCall:
        return _second(kernel, compute, sample, options[1]), range(n), options[1]

    if tight:
        _require_right(kernel, sample, first)
        del first
        _require_right(kernel, sample, second())
    else:
        before = _sums(first[0])
        _require_right(kernel, sample, first, second())
        if before != _sums(first[0]):
            raise Disagreement(f"{kernel.key} wrote over the result of an earlier call")
    if written != write_counts(data):
        raise Disagreement(f"{kernel.key} changed one of its inputs")
    require_same_state(kernel, state, problem.state())


def _require_right(kernel: Kernel, sample: CallerBatch, *calls: CheckedCall) -> None:
    """Raise a Disagreement unless each result has the quantity's structure and agrees with single passes."""
    n = count(sample.y)
    label = f"{kernel.key} on {sample.problem.name}, n={n}, {sample.dtype}"
    for result, _, options in calls:
        require_structure(result, kernel.quantity, sample, label, options)
    held = held_passes(kernel.quantity, sample, range(n))

    def results() -> list[ResultCheck]:
        return [
            result_check(kernel.quantity, one, held.places(at), n, given, held.batch, label) for one, at, given in calls
        ]

    require_agreement(held.batch, held.chosen, results)


def _sums(result: Any) -> list[str]:
    """Return the sum of each tensor as text, since NaN is not equal to itself."""
    return [str(leaf.sum().item()) for leaf in leaves(result)]


def _options(quantity: Quantity, sample: CallerBatch) -> tuple[Options, Options]:
    """Return the options of both calls: of several settings the first and the last, of one that and none."""
    if not quantity.options:
        return {}, {}
    draw = Draw(count(sample.y), sample.theta, batch=(sample.x, sample.y))
    needs = quantity.needs(draw)
    (single,) = sample.sample_gradients([0])
    length = 0.9 * single.length if 0 < single.length < math.inf else 1.0
    settings = [needs | more for _, more in quantity.settings(draw._replace(norms=[length]))]
    return settings[0] if settings else needs, settings[-1] if len(settings) > 1 else needs


def _placed(options: Options, theta: Any) -> Options:
    """Return options as a kernel of torch takes them: in the dtypes of theta's parameters, numbers of groups as is."""
    import torch

    first = leaves(theta)[0]

    def placed(value: Any, like: Any) -> Any:
        floating = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return torch.from_numpy(value.copy()).to(like) if floating else value

    return {
        name: {key: placed(part, theta[key]) for key, part in value.items()}
        if isinstance(value, dict) and value.keys() == theta.keys()
        else placed(value, first)
        for name, value in options.items()
    }


def _computed(kernel: Kernel, compute: Compute, sample: CallerBatch, options: Options) -> Any:
    """Call a kernel with options in its arrays; raise a Disagreement where it writes to one."""
    placed = _placed(options, sample.theta)
    written = write_counts(placed)
    result = compute(sample.theta, sample.x, sample.y, **placed)
    if written != write_counts(placed):
        raise Disagreement(f"{kernel.key} changed one of its options")
    return result


def _second(kernel: Kernel, compute: Compute, sample: CallerBatch, options: Options) -> Any:
    if not kernel.out:
        return _computed(kernel, compute, sample, options)
    first = leaves(sample.theta)[0]
    blank = kernel.quantity.blank(count(sample.y), sample.theta, options | output_axes(kernel.quantity, sample.y))
    like = sample.theta if isinstance(blank, dict) else {None: first}
    made = {name: one.detach().new_full(_shape(blank, name), math.nan) for name, one in like.items()}
    out = made if isinstance(blank, dict) else made[None]
    if compute(sample.theta, sample.x, sample.y, out=out) is not out:
        raise Disagreement(f"{kernel.key}: out= was given but is not what came back")
    return out


def _shape(blank: Any, name: Any) -> Any:
    return blank[name].shape if name is not None else blank.shape


def _nowhere_zero(theta: Any) -> Any:
    """Replace parameters that are zero, which hide what passes through them, and change the smallest one."""
    import torch

    generator = torch.Generator().manual_seed(1)
    smallest = min(theta, key=lambda name: theta[name].numel())
    made = {}
    for name, one in theta.items():
        value = one.detach()
        if not value.any():
            noise = torch.randn(value.shape, generator=generator).to(value)
            made[name] = noise.mul_(0.01)
        else:
            made[name] = value * 1.1 if name == smallest else one
    return made
