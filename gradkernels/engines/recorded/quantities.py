"""The quantities from recordings: memory, chunks, random numbers, and what the hooks compute again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import quantities as hooks
from gradkernels.engines.hooks.accumulate.deviations import inaccurate_variances
from gradkernels.engines.hooks.precision import sum_dtype
from gradkernels.engines.hooks.quantities import Theta, chunk_slices
from gradkernels.engines.recorded import functions
from gradkernels.engines.recorded.arguments import Beside
from gradkernels.engines.recorded.mending import Mending, SmallVariances
from gradkernels.engines.recorded.recordings import Recordings
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantity import Moments
from gradkernels.tree import Tree, count, take

_element_size = torch.Tensor.element_size

SMALL_BYTES = 1 << 16
"""Of a result: what an allocator takes from memory that the process has already."""


def _drawing(problem: ModuleProblem, whole: bool) -> AbstractContextManager[None]:
    """Return a context for random numbers, as the hooks begin them: once for a call, or anew for each chunk.

    Args:
        problem: Whose model draws.
        whole: Whether it is around the whole call.
    """
    return problem.seeded() if problem.randomness == ("different" if whole else "same") else nullcontext()


def per_sample(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the per-sample gradients, each written into its place."""
    recordings, plain = Recordings(problem, functions.rows), hooks.per_sample(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, out: Theta | None = None) -> Theta:
        n = count(y)
        if n < 2:
            return plain(theta, x, y, out)
        rows = _memory_of_rows(theta, n) if out is None else out
        with _drawing(problem, whole=True):
            for part_x, part_y, part_rows in _parts((x, y, rows), n, chunk):
                memory = [part_rows[name] for name in theta]
                with _drawing(problem, whole=False):
                    if recordings(theta, part_x, part_y, Beside(memory)) is None:
                        break
            else:
                return rows
        return plain(theta, x, y, rows)

    return compute


def _memory_of_rows(theta: Theta, n: int) -> Theta:
    """Allocate memory for the rows of n samples: small ones by torch, which keeps such memory at hand."""
    with torch.inference_mode(False):
        return {
            name: torch.empty(shape, dtype=one.dtype, device=one.device)
            if n * one.nbytes <= SMALL_BYTES
            else empty_torch(shape, one)
            for name, one, shape in ((name, one, (n, *one.shape)) for name, one in theta.items())
        }


def _parts(trees: Any, n: int, chunk: int) -> Iterable[Any]:
    """Return the trees of each chunk of samples, without a view of all where there is one chunk.

    Args:
        trees: Samples first.
        n: Their number.
        chunk: At most so many at a time.
    """
    return (trees,) if n <= chunk else (take(trees, part) for part in chunk_slices(n, chunk))


def norms(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the norms; where terms may have cancelled, or squares left their range, by the hooks."""
    recordings, plain = Recordings(problem, functions.norms), hooks.norms(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, out: Array | None = None) -> Array:
        n = count(y)
        parts = recorded_parts(recordings, theta, (x, y), chunk) if n > 1 else None
        if parts is None:
            return plain(theta, x, y, out)
        found, doubtful = (torch.cat(of) if len(of) > 1 else of[0] for of in zip(*parts, strict=True))
        if doubtful.any():
            if problem.randomness == "different":  # no sample's numbers are drawn again alone
                return plain(theta, x, y, out)
            with torch.inference_mode(False), torch.no_grad():
                at = doubtful.nonzero().flatten()
                found[at] = plain(theta, take(x, at), take(y, at)).to(found.dtype)
        if out is None:
            return found.to(max(theta.values(), key=_element_size).dtype)
        with torch.inference_mode(out.is_inference()), torch.no_grad():
            return out.copy_(found)

    return compute


def recorded_parts(
    recordings: Recordings, theta: Theta, data: tuple[Tree, Tree], chunk: int, *more: Array,
    each: tuple[Array, ...] = (), **settings: Hashable,
) -> list[Any] | None:  # fmt: skip
    """Return what is recorded for each chunk of samples; None where something is not recorded.

    Args:
        recordings: Of what.
        theta: Parameters by name.
        data: x and y.
        chunk: Samples.
        more: Tensors that the function takes besides.
        each: Tensors that it takes besides, samples first.
        settings: What decides what is recorded.
    """
    problem, (x, y), results = recordings.problem, data, []
    with _drawing(problem, whole=True):
        for part_x, part_y, part_each in _parts((x, y, each), count(y), chunk):
            with _drawing(problem, whole=False):
                beside = Beside(more=more, each=part_each, settings=tuple(settings.items()))
                result = recordings(theta, part_x, part_y, beside)
            if result is None:
                return None
            results.append(result)
    return results


def gradient(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the mean of the per-sample gradients, by one backward pass of the losses over n."""
    recordings, plain = Recordings(problem, functions.gradient), hooks.gradient(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree) -> Theta:
        n = count(y)
        parts = recorded_parts(recordings, theta, (x, y), chunk, _scalar(theta, 1 / n)) if n > 1 else None
        if parts is None:
            return plain(theta, x, y)
        with torch.inference_mode(False), torch.no_grad():
            return in_dtypes_of(theta, added_parts(parts))

    return compute


def clipped_sum(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the clipped sum by book-keeping; what is in doubt is put right by the hooks."""
    recordings, plain = Recordings(problem, functions.clipped_sum), hooks.clipped_sum(problem, chunk)
    mend = Mending(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, max_norm: float = 1.0) -> Theta:
        n = count(y)
        parts = recorded_parts(recordings, theta, (x, y), chunk, _scalar(theta, max_norm)) if n > 1 else None
        if parts is None:
            return plain(theta, x, y, max_norm)
        with torch.inference_mode(False), torch.no_grad():
            norms, doubtful = (torch.cat(of) for of in zip(*(part[-2:] for part in parts), strict=True))
            totals = dict(zip(theta, added_parts([part[:-2] for part in parts]), strict=True))
            if doubtful.any() and not mend(theta, (x, y), max_norm, totals, (norms, doubtful)):
                return plain(theta, x, y, max_norm)
            return in_dtypes_of(theta, [*totals.values()])

    return compute


def moments(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of mean and variance; where these are too much alike, by a second pass."""
    recordings, plain = Recordings(problem, functions.moments), hooks.moments(problem, chunk)
    around = SmallVariances(problem, chunk, recorded_parts)

    def compute(theta: Theta, x: Tree, y: Tree) -> Moments[Any]:
        n = count(y)
        parts = recorded_parts(recordings, theta, (x, y), chunk) if n > 1 else None
        if parts is None:
            found: Moments[Any] = plain(theta, x, y)
            return found
        with torch.inference_mode(False), torch.no_grad():
            powers = torch._foreach_div(added_parts(parts), n)
            mean, squares = powers[: len(theta)], powers[len(theta) :]
            spread = torch._foreach_clamp_min(torch._foreach_sub(squares, torch._foreach_mul(mean, mean)), 0.0)
            means, variances = dict(zip(theta, mean, strict=True)), dict(zip(theta, spread, strict=True))
        if names := inaccurate_variances(means, variances):
            variances |= around(theta, (x, y), means, names)
        with torch.inference_mode(False), torch.no_grad():
            return Moments(in_dtypes_of(theta, [*means.values()]), in_dtypes_of(theta, [*variances.values()]))

    return compute


def _scalar(theta: Theta, value: float) -> Array:
    """Return a number as a tensor without axes, in the dtype of sums over the widest parameter."""
    widest = max(theta.values(), key=_element_size)
    return _filled(value, sum_dtype(widest.dtype), widest.device)


@lru_cache(maxsize=64)
def _filled(value: float, dtype: torch.dtype, device: torch.device) -> Array:
    with torch.inference_mode(False):
        return torch.full((), value, dtype=dtype, device=device)


def added_parts(parts: Sequence[Sequence[Array]]) -> list[Array]:
    """Return the sums over chunks, tensor by tensor."""
    total = [*parts[0]]
    for part in parts[1:]:
        torch._foreach_add_(total, part)
    return total


def in_dtypes_of(theta: Theta, totals: Sequence[Array]) -> Theta:
    """Return tensors by the names of the parameters, and in their dtypes."""
    pairs = zip(theta.items(), totals, strict=True)
    return {name: total if total.dtype is one.dtype else total.to(one.dtype) for (name, one), total in pairs}
