"""captum's TracInCP whose influences are inner products that form no rows of the training samples."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gradkernels.adapters.missing import missing
from gradkernels.fastest.of_gradients import norms, per_sample
from gradkernels.fastest.products import inner
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.problems.module.sample_losses import unreduced

try:
    import captum.influence
except ImportError as error:
    raise missing("captum", "captum", error) from error


class TracInCP(captum.influence.TracInCP):
    """Takes the place of captum's: the same arguments, methods and scores (Pruthi et al. 2020).

    Rows are formed of the test samples alone. A training sample's influence is the inner product of its gradient with
    each of these (`gk.inner`), its self-influence the square of its norm (`gk.norms`), by the fastest proven kernel:
    for any layers, whether `sample_wise_grads_per_batch` is set or not.
    """

    def _basic_computation_tracincp(
        self, inputs: Sequence[Any], targets: Any = None, loss_fn: Any = None, reduction_type: str | None = None
    ) -> tuple[Tensor, ...]:
        rows = per_sample(self._problem(loss_fn), None, _inputs(inputs), targets, parameters=self._asked())
        return tuple(rows[name] for name in self._asked())

    def _influence_batch_tracincp(
        self, input_checkpoint_jacobians: list[tuple[Any, ...]], train_batch: tuple[Any, ...]
    ) -> Tensor:
        problem, asked, scores = self._problem(self.loss_fn), self._asked(), []
        inputs, targets = _inputs(train_batch[:-1]), train_batch[-1]
        for jacobians, checkpoint in zip(input_checkpoint_jacobians, self.checkpoints, strict=True):
            rate = self.checkpoints_load_func(self.model, checkpoint)
            directions = dict(zip(asked, jacobians, strict=True))
            scores.append(rate * inner(problem, None, inputs, targets, directions, parameters=asked).T)
        return sum(scores[1:], start=scores[0])

    def _self_influence_by_checkpoints(self, inputs: Any, show_progress: bool = False) -> Tensor:
        problem, asked, total = self._problem(self.loss_fn), self._asked(), []
        batches = inputs if isinstance(inputs, DataLoader) else [inputs]
        for checkpoint in self.checkpoints:
            rate = self.checkpoints_load_func(self.model, checkpoint)
            lengths = [norms(problem, None, _inputs(one[:-1]), one[-1], parameters=asked) for one in batches]
            total.append(rate * torch.cat(lengths).square())
        return sum(total[1:], start=total[0])

    def _asked(self) -> list[str]:
        """Return the names of the parameters that influences are of, in captum's order: all, or those of `layers`."""
        names = {id(one): name for name, one in self.model.named_parameters() if one.requires_grad}
        layers = [self.model] if self.layer_modules is None else self.layer_modules
        found = [names[id(one)] for layer in layers for one in layer.parameters() if id(one) in names]
        return list(dict.fromkeys(found))

    def _problem(self, loss_fn: Any) -> ModuleProblem:
        """Return the problem of a loss, the same one for the same loss, so that kernels are chosen once."""
        kept = self.__dict__.setdefault("_problems", {})
        if id(loss_fn) not in kept:
            summed = _summed(loss_fn)
            kept[id(loss_fn)] = ModuleProblem(self.model, summed, reduction="sum", mixing="own")
        problem: ModuleProblem = kept[id(loss_fn)]
        return problem


def _inputs(inputs: Sequence[Any]) -> Any:
    return inputs[0] if len(inputs) == 1 else tuple(inputs)


def _summed(loss_fn: Any) -> Any:
    """Return the sum of a loss over its samples: captum takes losses that are not reduced, sums and means."""
    if loss_fn is None:
        return _output_itself
    if unreduced(loss_fn) is not None and hasattr(loss_fn, "reduction"):
        summed = copy.copy(loss_fn)
        summed.reduction = "sum"
        return summed
    return partial(_sum_of, loss_fn)


def _output_itself(output: Tensor, y: Any) -> Tensor:
    return output.sum()


def _sum_of(loss_fn: Any, output: Any, y: Any) -> Tensor:
    total: Tensor = loss_fn(output, y).sum()
    return total
