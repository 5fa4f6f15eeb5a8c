"""What a module's samples give under torch.compile, a chunk of them at a time.

Compiling takes tens of seconds, once for each shape, so every chunk has the same one: a last chunk that would be
shorter begins earlier and writes some rows again. Compiled code for many samples at once can be far slower than for
few (a small CNN: 1.4 ms for 16, 368 ms for 256), which is why the size of a chunk is part of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gradkernels.engines.compiled.per_shape import per_shape
from gradkernels.engines.recorded.trace import (
    Untraceable,
    holding_untrained,
    restoring_attributes,
    trace_operations,
    untrained_tensors,
)
from gradkernels.engines.state_cache import StateCache
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch, ordinary
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import Tree, count, each, leaves, take

Write = Callable[..., None]
"""`write(theta, rest, x, y, out, ...)`: a result into the memory that is given, compiled to one pass over it."""


def vmap_rows(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the per-sample gradients by vmap of the gradient of one sample's loss."""
    return run_in_chunks(compiled_write(problem, _by_vmap(problem)), problem, chunk, memory_of_rows)


def compiled_write(problem: ModuleProblem, write: Write) -> Write:
    """Return `write`, recorded and compiled for each state of the model and each shape that it meets."""

    def recorded(write: Write, *arrays: Tree) -> Callable[..., Any]:
        before = problem.mode_key()
        with restoring_attributes(problem) as changed:
            recording = trace_operations(write, *arrays)
        if changed or problem.mode_key() != before:
            names = ", ".join(sorted(changed)) or "hooks or layers"
            raise Untraceable(f"the model changes its own {names} when it is called, and a recording would not")
        return recording

    return _explained(problem, StateCache(problem, lambda: per_shape(write, recorded)))


def run_in_chunks(write: Write, problem: ModuleProblem, chunk: int, memory: Callable[[Any, int], Tree]) -> Compute:
    """Return `compute(theta, x, y, out)` of what has samples first, at most `chunk` of them at a time.

    Args:
        write: Compiled.
        problem: Whose model.
        chunk: Samples.
        memory: `memory(theta, n)`, for a result of n samples.
    """
    import torch

    def compute(theta: Any, x: Tree, y: Tree, out: Any = None) -> Any:
        # As in `gradkernels.kernels.torch_compiled`: only its own memory cannot be written to outside inference_mode.
        with torch.inference_mode(out is not None and leaves(out)[0].is_inference()), torch.no_grad():
            theta, rest, x, y = each(detached, (dict(theta), untrained_tensors(problem), x, y))
            out = memory(theta, count(y)) if out is None else out
            for part in equal_chunks(count(y), chunk):
                write(theta, rest, take(x, part), take(y, part), take(out, part))
            return out

    return compute


def memory_of_rows(theta: Any, n: int) -> Tree:
    """Allocate memory for the rows of n samples, by parameter name."""
    return {name: empty_torch((n, *tensor.shape), tensor) for name, tensor in theta.items()}


def equal_chunks(n: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` samples that cover n; the last one may begin among those of the one before it.

    One slice of n samples where n is smaller; none for n = 0.
    """
    size = min(size, n)
    for start in range(0, n, size or 1):
        first = min(start, n - size)
        yield slice(first, first + size)


def detached(tensor: Any) -> Any:
    """Return the tensor without a graph, and not of inference mode."""
    return ordinary(tensor).detach()


def _by_vmap(problem: ModuleProblem) -> Write:
    from torch.func import grad, vmap

    def loss(theta: Any, rest: Any, x: Tree, y: Tree) -> Any:
        with holding_untrained(problem, rest):
            return problem.loss(theta, x, y)

    gradients = vmap(grad(loss), in_dims=(None, None, 0, 0))

    def write(theta: Any, rest: Any, x: Tree, y: Tree, out: Any) -> None:
        for name, rows in gradients(theta, rest, x, y).items():
            out[name].copy_(rows)

    return write


def _explained(problem: ModuleProblem, compiled: StateCache[Write]) -> Write:
    """Wrap what is compiled, so that errors of torch's tracer and compiler become one sentence."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    def call(*arrays: Tree) -> None:
        try:
            compiled()(*arrays)
        except (Untraceable, TorchDynamoException, InductorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RuntimeError(
                f"torch.compile cannot compile the gradient of {problem.name}: {first}; take another kernel"
            ) from error

    return call
