"""The numbers of a module problem as numpy arrays, and its parts in another dtype or on another device."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.names import dtype_name
from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.buffers import with_copied_buffers
from gradkernels.problems.module.input_writes import share_input_writes
from gradkernels.problems.module.output_axes import observe_output, output_axes_of, share_output_axes
from gradkernels.problems.module.structure import Parameters, as_dtype
from gradkernels.problems.nearby import near, shuffled, with_floats
from gradkernels.tree import Tree, count, each, take, with_constants
from gradkernels.truth import Floats

HALVES = ("bfloat16", "float16")


def draw_samples(problem: BlackBox, n: int, seed: int) -> tuple[Tree, Tree]:
    """Copy n samples of the example in random order, again and again if it has fewer; halves as float32.

    Args:
        problem: Whose example is drawn from.
        n: Number of samples.
        seed: Of the order.
    """
    if problem.example is None:
        raise ValueError(f"{problem.name} has no data to draw from; make the ModuleProblem with example=(x, y)")
    x, y = problem.prepared(*problem.example)
    x, y = each(lambda tensor: np.array(as_numpy(tensor)), take((x, y), shuffled(count(y), n, seed)))
    return x, y


def draw_parameters(own: Parameters, seed: int) -> dict[str, Floats]:
    """Draw float64 numbers near the model's own."""
    rng = np.random.default_rng([seed, 1])
    arrays = {name: tensor.detach().double().numpy(force=True) for name, tensor in own.items()}
    return {name: near(array, rng.standard_normal(array.shape)) for name, array in arrays.items()}


def as_numpy(tensor: Array) -> Any:
    """Convert a torch tensor to a numpy array, half precision to float32; keep a numpy array as it is."""
    if isinstance(tensor, np.ndarray):
        return tensor
    half = tensor.is_floating_point() and tensor.element_size() == 2
    return (tensor.detach().float() if half else tensor.detach()).numpy(force=True)


def cast(trees: Tree, dtype: str, order: Any) -> Any:
    """Convert trees of numpy arrays: floats to `dtype`, complex numbers to two of that, constants too.

    Args:
        trees: Of numpy arrays and constants.
        dtype: `float64` or `float32`.
        order: Memory order, as numpy takes it.

    Raises:
        ValueError: numpy has no such dtype.
    """
    import torch

    if dtype in HALVES:
        raise ValueError(f"numpy has no {dtype}; kernels are proven and timed in float64 and float32")
    kinds = {"f": np.dtype(dtype), "c": np.result_type(dtype, np.complex64)}

    def constant(value: Any) -> Any:
        return as_dtype(value, getattr(torch, dtype)) if isinstance(value, torch.Tensor) else value

    return with_constants(constant, each(lambda one: with_floats(one, kinds, order), trees))


def changes_for_proof(problem: BlackBox, dtype: str, device: str) -> dict[str, Any]:
    """Return which of a problem's fields have to be others for it to be proven.

    Args:
        problem: A model and its loss.
        dtype: Of the proof; halves are proven in float32.
        device: Of the proof.
    """
    dtype = "float32" if dtype in HALVES else dtype
    changes: dict[str, Any] = {"randomness": "same"} if problem.randomness == "different" else {}
    if problem.example is not None and not output_axes_of(problem.model).looked:
        with with_copied_buffers(problem.model):
            observe_output(problem.model, problem.output, each(_tensor, problem.prepared(*problem.example)[0]))
    if {(dtype_name(own.dtype), str(own.device)) for own in problem.parameters().values()} != {(dtype, device)}:
        changes |= {name: copy_to(getattr(problem, name), dtype, device) for name in ("model", "loss_fn")}
    return changes


def _tensor(array: Any) -> Any:
    import torch

    return torch.as_tensor(array)


def copy_to(part: Any, dtype: str, device: str) -> Any:
    """Copy a module, with its floats in `dtype`, to a device; return what is no module as it is.

    Args:
        part: A module or a function.
        dtype: Name of the dtype.
        device: Name of the device.
    """
    import torch

    if not isinstance(part, torch.nn.Module):
        return part
    made = copy.deepcopy(part).to(device, getattr(torch, dtype))
    share_input_writes(part, made)
    share_output_axes(made, part)
    return made


def dense(tensor: Array) -> Array:
    """Return a tensor with all of its entries: the gradient of a sparse embedding has only rows that were looked up."""
    return tensor.to_dense() if tensor.is_sparse else tensor
