"""What libraries of data attribution take gradients by: TRAK's and dattri's by vmap, captum's by hooks."""

from __future__ import annotations

from typing import Any

from gradkernels.problems.module.inputs import unfolded
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction, arguments_of, batch_of, loss_of_one


def trak(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by TRAK's `FunctionalGradientComputer`, whose model output is the loss."""
    from trak.gradient_computers import FunctionalGradientComputer
    from trak.modelout_functions import AbstractModelOutput

    of_one = loss_of_one(problem)

    class Loss(AbstractModelOutput):  # type: ignore[misc]
        def __init__(self) -> None:
            """Have nothing to hold."""

        def get_output(self, model: Any, weights: Any, buffers: Any, *batch: Any) -> Any:
            """Compute the loss of a sample."""
            return of_one(weights, buffers, *batch)

        def get_out_to_loss_grad(self, *given: Any) -> Any:
            """Refuse what no gradient of a sample needs."""
            raise NotImplementedError

    first = next(iter(problem.parameters().values()))
    entries = sum(one.numel() for one in problem.parameters().values())
    computer = FunctionalGradientComputer(problem.model, Loss(), entries, first.dtype, first.device)

    def rows(x: Any, y: Any) -> Any:
        x, y, _ = batch_of(problem, x, y)
        return computer.compute_per_sample_grad((x, y))

    return rows


def dattri(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by the gradient function of dattri's `AttributionTask`, flat."""
    from dattri.task import AttributionTask

    of_one = loss_of_one(problem)

    def loss(parameters: Any, data: Any) -> Any:
        return of_one(parameters, {}, *data)

    task = AttributionTask(loss_func=loss, model=problem.model, checkpoints=problem.model.state_dict())
    of_all = task.get_grad_loss_func(in_dims=(None, 0))

    def rows(x: Any, y: Any) -> Any:
        x, y, _ = batch_of(problem, x, y)
        parameters, _ = task.get_param(ckpt_idx=0)
        return of_all(parameters, (x, y))

    return rows


def captum(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by what `TracInCP(sample_wise_grads_per_batch=True)` calls, a tuple in the order of parameters."""
    from captum._utils.gradient import _compute_jacobian_wrt_params_with_sample_wise_trick as jacobian

    def loss(output: Any, y: Any) -> Any:
        return problem.loss_fn(output, y)

    def rows(x: Any, y: Any) -> Any:
        x, y, _ = batch_of(problem, x, y)
        args, kwargs = arguments_of(x)
        if kwargs:
            raise TypeError("captum's TracInCP calls a model with tensors by position, not by name")
        return jacobian(problem.model, args, unfolded(y), loss, problem.reduction)

    return rows
