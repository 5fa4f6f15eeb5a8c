"""The quantities from recordings: memory, chunks, random numbers, and what the hooks compute again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import quantities as hooks
from gradkernels.engines.hooks.precision import sum_dtype
from gradkernels.engines.hooks.quantities import Theta, chunk_slices
from gradkernels.engines.recorded import functions
from gradkernels.engines.recorded.recordings import Recordings
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, count, leaves, take


@contextmanager
def _below_autograd(out: Any = None) -> Iterator[None]:
    """Run operations as they are, with nothing recorded for autograd, nothing cast and results that anyone can use.

    Args:
        out: Memory that is written to.
    """
    sealed = out is not None and leaves(out)[0].is_inference()
    with torch.inference_mode(sealed), torch._C._AutoDispatchBelowAutograd(), torch._C._DisableAutocast():
        yield


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
        rows = {name: empty_torch((n, *one.shape), one) for name, one in theta.items()} if out is None else out
        with _below_autograd(rows), _drawing(problem, whole=True):
            for part in chunk_slices(n, chunk):
                arguments = recordings.arguments(theta, take(x, part), take(y, part), out=take(rows, part))
                with _drawing(problem, whole=False):
                    if recordings(arguments) is None:
                        break
            else:
                return rows
        return plain(theta, x, y, rows)

    return compute


def norms(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the norms; where terms may have cancelled, or squares left their range, by the hooks."""
    recordings, plain = Recordings(problem, functions.norms), hooks.norms(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, out: Array | None = None) -> Array:
        n = count(y)
        parts = recorded_parts(recordings, theta, (x, y), chunk) if n > 1 else None
        if parts is None:
            return plain(theta, x, y, out)
        found, doubtful = (torch.cat(of) if len(of) > 1 else of[0] for of in zip(*parts, strict=True))
        with torch.inference_mode(out is not None and out.is_inference()), torch.no_grad():
            if doubtful.any():
                if problem.randomness == "different":  # no sample's numbers are drawn again alone
                    return plain(theta, x, y, out)
                at = doubtful.nonzero().flatten()
                found[at] = plain(theta, take(x, at), take(y, at)).to(found.dtype)
            if out is not None:
                return out.copy_(found)
            widest = max(theta.values(), key=lambda one: one.element_size())
            return found.to(widest.dtype)

    return compute


def recorded_parts(
    recordings: Recordings, theta: Theta, data: tuple[Tree, Tree], chunk: int, *more: Array
) -> list[Any] | None:
    """Return what is recorded for each chunk of samples; None where something is not recorded.

    Args:
        recordings: Of what.
        theta: Parameters by name.
        data: x and y.
        chunk: Samples.
        more: Tensors that the function takes besides.
    """
    problem, (x, y), results = recordings.problem, data, []
    with _below_autograd(), _drawing(problem, whole=True):
        for part in chunk_slices(count(y), chunk):
            arguments = recordings.arguments(theta, take(x, part), take(y, part), more=more)
            with _drawing(problem, whole=False):
                result = recordings(arguments)
            if result is None:
                return None
            results.append(result)
    return results


def gradient(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the mean of the per-sample gradients, by one backward pass of the losses over n."""
    recordings, plain = Recordings(problem, functions.gradient), hooks.gradient(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree) -> Theta:
        n = count(y)
        widest = max(theta.values(), key=lambda one: one.element_size())
        with torch.inference_mode(False):
            share = torch.full((), 1 / n, dtype=sum_dtype(widest.dtype), device=widest.device)
        parts = recorded_parts(recordings, theta, (x, y), chunk, share) if n > 1 else None
        if parts is None:
            return plain(theta, x, y)
        with torch.inference_mode(False), torch.no_grad():
            sums = parts[0] if len(parts) == 1 else [sum(of) for of in zip(*parts, strict=True)]
            return {name: total.to(one.dtype) for (name, one), total in zip(theta.items(), sums, strict=True)}

    return compute
