"""dattri's AttributionTask with gradients of the fastest proven kernel: flat rows for every attributor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradkernels.adapters.missing import missing
from gradkernels.adapters.model_call import ModelCall, problem_of, recorded_call, require_same
from gradkernels.fastest.of_gradients import per_sample
from gradkernels.problems.module.module_problem import ModuleProblem

try:
    from dattri import task as dattri_task
except ImportError as error:
    raise missing("dattri", "dattri", error) from error

GradientFunction = Callable[..., Tensor]
"""`function(parameters, data)`, `(n, P)`."""


class AttributionTask(dattri_task.AttributionTask):
    """Takes the place of dattri's: the same arguments, and gradient functions that return the same rows.

    A loss or target function has to call the model once for a sample, through `torch.func.functional_call`.
    """

    def get_grad_loss_func(
        self, in_dims: Any = (None, 1), layer_name: Any = None, ckpt_idx: int | None = None
    ) -> GradientFunction:
        """Return `function(parameters, data)` that gives the gradient of each sample's loss, `(n, P)`.

        Args:
            in_dims: None for the parameters, and the axis of data that has the samples.
            layer_name: Names of the only parameters that are differentiated by, and given.
            ckpt_idx: Of the checkpoint that has the others.
        """
        own = super().get_grad_loss_func(in_dims, layer_name, ckpt_idx)
        return self._ours("loss", own, in_dims, layer_name)

    def get_grad_target_func(
        self, in_dims: Any = (None, 1), layer_name: Any = None, ckpt_idx: int | None = None
    ) -> GradientFunction:
        """Return the same of the target function.

        Args:
            in_dims: None for the parameters, and the axis of data that has the samples.
            layer_name: Names of the only parameters that are differentiated by, and given.
            ckpt_idx: Of the checkpoint that has the others.
        """
        own = super().get_grad_target_func(in_dims, layer_name, ckpt_idx)
        return self._ours("target", own, in_dims, layer_name)

    def _ours(self, kind: str, own: GradientFunction, in_dims: Any, layer_name: Any) -> GradientFunction:
        if len(in_dims) != 2 or in_dims[0] is not None or not isinstance(in_dims[1], int):
            return own
        names = None if layer_name is None else tuple([layer_name] if isinstance(layer_name, str) else layer_name)
        function = self.original_loss_func if kind == "loss" else self.original_target_func
        kept = self.__dict__.setdefault("_gradients", {})
        key = kind, in_dims[1], names, id(self.model)
        if key not in kept:
            kept[key] = FlatGradients(function, self.model, in_dims[1], names)
        kept[key].own = own
        found: GradientFunction = kept[key]
        return found


class FlatGradients:
    """Per-sample gradients of a function of parameters and data, by one pass of the model for all samples.

    Args:
        function: `function(parameters by name, data of a sample)`, a scalar.
        model: That it calls.
        axis: Of the data's tensors that has the samples.
        names: Of the only parameters; None for all.
    """

    own: GradientFunction

    def __init__(
        self, function: Callable[..., Tensor], model: nn.Module, axis: int, names: tuple[str, ...] | None
    ) -> None:
        self._function, self._model, self._axis, self._names = function, model, axis, names
        self._calls: dict[Any, tuple[ModuleProblem, ModelCall]] = {}

    def __call__(self, parameters: Tensor, data: Any) -> Tensor:
        """Compute the rows, `(n, P)`.

        Args:
            parameters: Flat, `(P,)`.
            data: Tensors of a batch, a tuple or list of them, or a dict.
        """
        keys = tuple(data) if isinstance(data, Mapping) else None
        batch = [one.movedim(self._axis, 0) for one in (data.values() if isinstance(data, Mapping) else data)]
        if keys not in self._calls:
            self._calls[keys] = self._proven(parameters, batch, keys)
        return self._rows(*self._calls[keys], parameters, batch)

    def _rows(self, problem: ModuleProblem, call: ModelCall, parameters: Tensor, batch: list[Tensor]) -> Tensor:
        theta = {name: one.detach() for name, one in self._trainable().items()} | self._split(parameters)
        arrays = theta, call.inputs(batch), tuple(batch)
        if self._names is None:
            options: Any = {"flat": True}
            flat: Any = per_sample(problem, *arrays, **options)
            return flat
        rows = per_sample(problem, *arrays, parameters=list(self._names))
        return torch.cat([rows[name].flatten(1) for name in self._names], 1)

    def _proven(self, parameters: Tensor, batch: list[Tensor], keys: Any) -> tuple[ModuleProblem, ModelCall]:
        """Read off how the function calls the model; hold a first sample's row against that of dattri's function."""

        def value(stand_in: nn.Module, *sample: Tensor) -> Tensor:
            with forward_by(self._model, stand_in):
                return self._function({}, _rebuilt(sample, keys))

        problem, call = problem_of(value, self._model), recorded_call(value, self._model.forward, batch)
        first = [one[:1] for one in batch]
        of_dattri = self.own(parameters.detach(), _rebuilt([one.movedim(0, self._axis) for one in first], keys))
        row = self._rows(problem, call, parameters, first)
        require_same({"its parameters": of_dattri[0]}, {"its parameters": row})
        return problem, call

    def _split(self, parameters: Tensor) -> dict[str, Tensor]:
        trainable = self._trainable()
        shapes = {name: trainable[name].shape for name in self._names or trainable}
        parts = torch.split(parameters.detach(), [shape.numel() for shape in shapes.values()])
        return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    def _trainable(self) -> dict[str, Tensor]:
        return {name: one for name, one in self._model.named_parameters() if one.requires_grad}


def _rebuilt(tensors: Sequence[Tensor], keys: Any) -> Any:
    return tuple(tensors) if keys is None else dict(zip(keys, tensors, strict=True))


@contextmanager
def forward_by(model: nn.Module, stand_in: nn.Module) -> Iterator[None]:
    """Have calls of a model answered by a stand-in, and by the model again afterwards."""
    before = vars(model).get("forward")
    vars(model)["forward"] = stand_in.forward
    try:
        yield
    finally:
        del vars(model)["forward"]
        if before is not None:
            vars(model)["forward"] = before
