"""Whether samples have gradients of their own: what no kernel is to blame for, looked at on a few of them.

All in the dtype that the model is used in, one sample at a time, so that it takes the memory of a backward pass and two
gradients. Nothing is left behind, neither in the model's buffers nor in torch's random numbers.
"""

from __future__ import annotations

from typing import Any

from gradkernels.check.modules.model_pass import WRITES_BUFFER, require_mean_or_sum
from gradkernels.check.modules.reference import DRAWS_RANDOM_NUMBERS, MIXES_SAMPLES, rows_and_gradient
from gradkernels.check.modules.result_checks import coarsest_dtype
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.buffers import with_copied_buffers
from gradkernels.problems.module.conversion import as_numpy
from gradkernels.problems.module.input_writes import recording_writes
from gradkernels.problems.module.output_axes import observe_output, output_axes_of
from gradkernels.problems.module.random_state import rng_devices, rng_state
from gradkernels.problems.module.split_output import SplitOutput
from gradkernels.tree import Tree, count, each, leaves, take

BATCH_TOLERANCES = {"float64": 1e-6, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""How far the gradient of a batch may be from the mean of its rows, relative to the rows' lengths."""


def require_independent_samples(problem: BlackBox, theta: Any, x: Tree, y: Tree) -> None:
    """Refuse a model or loss by which a few samples have no gradients of their own.

    Args:
        problem: Of a module.
        theta: Parameters by name.
        x: Inputs of the samples.
        y: Their targets.

    Raises:
        ValueError: The model mixes the samples of a batch, draws random numbers where that is an error, writes to its
            buffers, or `loss_fn` is not reduced as the problem says.
    """
    import torch

    device = leaves(theta)[0].device
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(rng_devices(device)):
        leaf = {name: _leaf(tensor) for name, tensor in theta.items()}
        with with_copied_buffers(problem.model) as written, problem.with_parameters(leaf):
            with recording_writes(problem.model, x, y) as mine:
                mean, length, drew = _mean(problem, leaf, *mine)
            if drew:
                observe_output(problem.model, problem.output, x)
            gradient = None if drew else _of_batch(problem, leaf, x, y)
    if written:
        raise ValueError(WRITES_BUFFER.format(name=written[0]))
    if gradient is None:
        return
    off = sum(float((one - other).norm()) ** 2 for one, other in zip(gradient, mean, strict=True)) ** 0.5
    # A length that is not finite allows any difference.
    if off > BATCH_TOLERANCES[coarsest_dtype(theta)] * length and not _rounded(problem, theta, x, y, off, length):
        raise ValueError(MIXES_SAMPLES)


def _rounded(problem: BlackBox, theta: Any, x: Tree, y: Tree, off: float, length: float) -> bool:
    """Tell whether a difference is rounding: under autocast, say, a model computes in less than its own dtype."""
    theta, x, y = each(as_numpy, (theta, x, y))
    try:
        rows_and_gradient(problem, theta, x, y, "float64")
    except (RuntimeError, TypeError):  # it cannot be run in float64
        return off <= BATCH_TOLERANCES["bfloat16"] * length
    return True


def _mean(problem: BlackBox, leaf: Any, x: Tree, y: Tree) -> tuple[list[Any], float, bool]:
    """Return the mean of the rows, the mean of their norms, and whether random numbers were drawn."""
    n, device = count(y), leaves(leaf)[0].device
    total: list[Any] = []
    length, drew = 0.0, False
    for i in range(n):
        with problem.seeded():
            before = rng_state(device)
            row = _backward(_differentiable(problem.loss(leaf, take(x, i), take(y, i))), leaf)
            drew = drew or rng_state(device) != before
        if drew and problem.randomness == "error":
            raise ValueError(DRAWS_RANDOM_NUMBERS)
        length += sum(float(part.norm()) ** 2 for part in row) ** 0.5 / n
        total = [one.add_(part) for one, part in zip(total, row, strict=True)] if total else row
    return [one.div_(n) for one in total], length, drew


def _differentiable(loss: Any) -> Any:
    """Return the loss of a sample; raise where it is none that has a gradient."""
    import torch

    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"loss_fn returned a {type(loss).__name__}; it must return a tensor, the mean or the sum")
    if not loss.requires_grad:
        raise ValueError(
            "the loss of a sample does not depend on the model's parameters: is something detached in between, or made "
            "by what torch does not differentiate?"
        )
    return loss


def _of_batch(problem: BlackBox, leaf: Any, x: Tree, y: Tree) -> list[Any] | None:
    """Differentiate the mean of all losses; None where a batch has no losses of its samples."""
    import torch

    output = problem.output(x)
    if not isinstance(output, torch.Tensor):
        observe_output(problem.model, problem.output, x)
    apart = SplitOutput(output, output_axes_of(problem.model).have_samples(output, count(y)))
    batch = problem.batch_loss(apart.of_batch([one.clone() for one in apart.tensors]), y)
    try:
        losses = problem.losses(output, y)
    except Exception:  # an output of a kind of its own, say: only the model can take single samples then
        return None
    if batch.numel() != 1:
        raise ValueError(f"loss_fn returned shape {tuple(batch.shape)}; it must be a scalar, the mean or the sum")
    require_mean_or_sum(problem, losses, batch)
    return _backward(losses.mean(), leaf)


def _backward(loss: Any, leaf: Any) -> list[Any]:
    import torch

    parts = torch.autograd.grad(loss, leaves(leaf), materialize_grads=True)
    return [_summable(part) for part in parts]


def _summable(part: Any) -> Any:
    """Convert halves to float32, in which sums can be taken; a tensor of its own."""
    if part.is_sparse:
        part = part.to_dense()
    return part.float() if part.is_floating_point() and part.element_size() == 2 else part.clone()


def _leaf(tensor: Any) -> Any:
    return (tensor.clone() if tensor.is_inference() else tensor).detach().requires_grad_()
