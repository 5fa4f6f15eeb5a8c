"""Rows of a module under torch.compile, a chunk of samples at a time.

Compiling takes tens of seconds, once for each shape, so every chunk has the same one: a last chunk that would be
shorter begins earlier and writes some rows again. Compiled code for many samples at once can be far slower than for
few (a small CNN: 1.4 ms for 16, 368 ms for 256), which is why the size of a chunk is part of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gradkernels.closed.per_shape import per_shape
from gradkernels.compiled.trace import Untraceable, holding_rest, rest_of, traced
from gradkernels.kernel import Compute
from gradkernels.memory import empty_torch, ordinary
from gradkernels.problems.module import ModuleProblem
from gradkernels.tree import Tree, count, each, leaves, take

if TYPE_CHECKING:
    from gradkernels.hooks.engine import Engine


Write = Callable[..., None]
"""`write(theta, rest, x, y, out)`: rows into the memory that is given, which compiles to one pass over it."""


def vmap_rows(problem: ModuleProblem, chunk: int) -> Compute:
    """Rows by vmap of the gradient of one sample's loss."""
    return _in_chunks(problem, chunk, _by_vmap(problem), lambda theta, x: None)


def hooks_rows(problem: ModuleProblem, chunk: int) -> Compute:
    """Rows by `gradkernels.hooks`: what its forward and backward pass compute, recorded and compiled."""
    from gradkernels.hooks.engine import Engine

    engine = Engine(problem, problem.defined_losses)
    return _in_chunks(problem, chunk, _by_hooks(problem, engine), engine.prepare)


def _in_chunks(problem: ModuleProblem, chunk: int, write: Write, prepare: Callable[[Any, Tree], None]) -> Compute:
    """`compute(theta, x, y, out)` of rows `(n, *shape)` by parameter name, at most `chunk` samples compiled at once."""
    import torch

    def recorded(write: Write, theta: Any, rest: Any, x: Tree, y: Tree, out: Any) -> Callable[..., Any]:
        prepare(theta, x)
        return traced(write, theta, rest, x, y, out)

    compiled = _explained(problem, per_shape(write, recorded))

    def compute(theta: Any, x: Tree, y: Tree, out: Any = None) -> Any:
        # As in `gradkernels.kernels.torch_compiled`: only its own memory cannot be written to outside inference_mode.
        with torch.inference_mode(out is not None and leaves(out)[0].is_inference()), torch.no_grad():
            theta, rest, x, y = each(_plain, (dict(theta), rest_of(problem.model), x, y))
            if out is None:
                out = each(lambda tensor: empty_torch((count(y), *tensor.shape), tensor), theta)
            for part in chunks(count(y), chunk):
                compiled(theta, rest, take(x, part), take(y, part), take(out, part))
            return out

    return compute


def chunks(n: int, size: int) -> Iterator[slice]:
    """Slices of `size` samples that cover n; the last one may begin among those of the one before it.

    One of n samples where n is smaller; none for n = 0.
    """
    size = min(size, n)
    for start in range(0, n, size or 1):
        first = min(start, n - size)
        yield slice(first, first + size)


def _plain(tensor: Any) -> Any:
    return ordinary(tensor).detach()


def _by_vmap(problem: ModuleProblem) -> Write:
    from torch.func import grad, vmap

    def loss(theta: Any, rest: Any, x: Tree, y: Tree) -> Any:
        with holding_rest(problem.model, rest):
            return problem.loss(theta, x, y)

    gradients = vmap(grad(loss), in_dims=(None, None, 0, 0))

    def write(theta: Any, rest: Any, x: Tree, y: Tree, out: Any) -> None:
        for name, rows in gradients(theta, rest, x, y).items():
            out[name].copy_(rows)

    return write


def _by_hooks(problem: ModuleProblem, engine: Engine) -> Write:
    from gradkernels.hooks.consumers import Rows
    from gradkernels.hooks.measured import unmeasured

    def write(theta: Any, rest: Any, x: Tree, y: Tree, out: Any) -> None:
        fresh = {name: one.new_empty((count(y), *one.shape)) for name, one in theta.items()}
        with holding_rest(problem.model, rest), unmeasured(), engine.forward(theta, x, y) as forward:
            rows = Rows(forward.theta, fresh)
            forward.backward(rows)
            for name, one in rows.finish().items():
                out[name].copy_(one)

    return write


def _explained(problem: ModuleProblem, compiled: Compute) -> Compute:
    """`compiled`, where what torch's tracer and compiler raise becomes one sentence."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    def call(*arrays: Tree) -> None:
        try:
            compiled(*arrays)
        except (Untraceable, TorchDynamoException, InductorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RuntimeError(
                f"torch.compile cannot compile the gradient of {problem.name}: {first}; take another kernel"
            ) from error

    return call
