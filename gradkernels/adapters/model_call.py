"""Functions of one sample that call a model: as a problem of a batch that goes through the model once.

TRAK and dattri are given such functions and differentiate them by vmap. Here the call is recorded on a first sample:
which tensors of the sample, with an axis of one in front, the model is called with. A batch then goes through the model
at once, and the function of each sample is handed the model's output for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import take

TIMES_ROOT_EPS = 10.0
"""Times the root of the machine's precision, of the largest entry: what a gradient may be off by."""

Sample = Callable[..., Tensor]
"""`function(model, *tensors of a sample)`, a scalar."""


class Recorder(nn.Module):
    """Takes the place of a model, and notes what it is called with.

    Args:
        compute: What the model computes.
    """

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._compute = [compute]  # in a list it is no child, whose parameters would be looked for

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Note a call, and compute it."""
        self.calls.append((arguments, named))
        return self._compute[0](*arguments, **named)


class OutputGiven(nn.Module):
    """Takes the place of a model whose output is there already.

    Args:
        output: Of a batch of one.
    """

    def __init__(self, output: Any) -> None:
        super().__init__()
        self._output = [output]

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Return the output, whatever the model is called with."""
        return self._output[0]


@dataclass(frozen=True)
class ModelCall:
    """How a function of one sample calls its model.

    Attributes:
        arguments: By position; of each the number of the sample's tensor, `~number` where that has an axis of one in
            front already, or the constant in a tuple of one.
        named: By name, likewise.
    """

    arguments: tuple[Any, ...]
    named: dict[str, Any]

    def inputs(self, batch: Sequence[Tensor]) -> Any:
        """Return what the model takes for a batch: a tensor, a tuple or a dict."""
        if self.named:
            return {name: _of(batch, one) for name, one in self.named.items()}
        inputs = tuple(_of(batch, one) for one in self.arguments)
        return inputs[0] if len(inputs) == 1 else inputs


def recorded_call(function: Sample, compute: Callable[..., Any], batch: Sequence[Tensor]) -> ModelCall:
    """Run a function of one sample on the first one, and return how it calls the model.

    Args:
        function: Of the model and a sample's tensors.
        compute: What the model computes.
        batch: Tensors, samples first.

    Raises:
        ValueError: It does not call the model once with tensors of the sample.
    """
    recorder, sample = Recorder(compute), [one[0] for one in batch]
    with torch.no_grad():
        try:
            function(recorder, *sample)
        except AttributeError as error:
            raise ValueError(f"the task uses more of the model than a call of it: {error}") from error
    if len(recorder.calls) != 1:
        raise ValueError(f"the task calls the model {len(recorder.calls)} times for a sample; it must call it once")
    ((arguments, named),) = recorder.calls
    if arguments and named:
        raise ValueError("the task calls the model with arguments by position and by name; give all of them by name")
    found = {name: _number(value, sample, name) for name, value in named.items()}
    return ModelCall(tuple(_number(value, sample, i) for i, value in enumerate(arguments)), found)


def problem_of(function: Sample, model: nn.Module) -> ModuleProblem:
    """Return the problem whose loss of a sample is the function's value, given the model's output for it.

    Args:
        function: Of the model and a sample's tensors, which are the problem's `y`.
        model: That is differentiated.
    """
    value = partial(value_of_each, function)
    return ModuleProblem(model, value, reduction="sum", randomness="different", mixing="own")


def value_of_each(function: Sample, output: Any, batch: tuple[Tensor, ...]) -> Tensor:
    """Sum the function's values over a batch whose output is there.

    Args:
        function: Of the model and a sample's tensors.
        output: The model's, samples first.
        batch: Tensors, samples first.
    """
    if len(batch[0]) == 1:  # as it is asked for each sample
        return function(OutputGiven(output), *(one[0] for one in batch)).sum()
    parts = [take(output, slice(i, i + 1)) for i in range(len(batch[0]))]
    values = [function(OutputGiven(part), *(one[i] for one in batch)) for i, part in enumerate(parts)]
    return torch.stack(values).sum() if values else batch[0].new_zeros(())


def require_same(own: dict[str, Tensor], rows: dict[str, Tensor]) -> None:
    """Raise where a sample's gradient by the task's own function is another than that by the recorded call.

    Args:
        own: By parameter.
        rows: Of a batch of that sample, `(1, *shape)`, by parameter; some of them may be left out.

    Raises:
        ValueError: They differ by more than rounding.
    """
    largest = max(float(one.detach().abs().max()) for one in own.values())
    for name, row in rows.items():
        allowed = TIMES_ROOT_EPS * largest * torch.finfo(row.dtype).eps ** 0.5
        if not bool(((row[0] - own[name]).detach().abs() <= allowed).all()):
            raise ValueError(
                f"the gradient of the task by {name} is another than through its one call of the model: the task uses "
                "parameters or random numbers besides; take the library's own gradients for it"
            )


def _of(batch: Sequence[Tensor], part: Any) -> Any:
    if isinstance(part, tuple):
        return part[0]
    return batch[part] if part >= 0 else batch[~part][:, 0]


def _number(value: Any, sample: list[Tensor], name: Any) -> Any:
    """Return the number of the sample's tensor that this is, or `(value,)`; `~number` where that has the axis."""
    if not isinstance(value, Tensor):
        return (value,)
    for number, one in enumerate(sample):
        if value.dtype is one.dtype and value.data_ptr() == one.data_ptr():
            if value.shape == (1, *one.shape):
                return number
            if value.shape == one.shape and one.shape[:1] == (1,):
                return ~number
    raise ValueError(
        f"the task calls the model with a tensor {tuple(value.shape)} ({name}) that is no tensor of the sample with an "
        "axis of one in front; do what it is made by in the model or in the data set"
    )
