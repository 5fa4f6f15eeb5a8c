"""Opacus: GradSampleModule by hooks, by functorch and by expanded weights, with the `loss_reduction` of the loss."""

from __future__ import annotations

from functools import partial
from typing import Any

from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction, arguments_of, batch_of

REPLACED_LAYERS = ("LSTM", "GRU")
"""Layers of torch that Opacus has its own for, with parameters of the same names."""


def _rows(problem: ModuleProblem, mode: str, **options: Any) -> RowsFunction:
    """Make `f(x, y)` of a wrapped model, with Opacus' own recurrent layers in the place of torch's.

    Layers with parameters are put in training mode: Opacus does not see others.
    """
    from opacus.grad_sample.utils import get_gsm_class

    _replace_recurrent(problem.model)
    for module in problem.model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.training = True
    wrapped = get_gsm_class(mode)(problem.model, loss_reduction=problem.reduction, **options)

    def rows(x: Any, y: Any) -> dict[str, Any]:
        x, y, _ = batch_of(problem, x, y)
        parameters = problem.parameters()
        for one in parameters.values():
            one.grad = one.grad_sample = None
        args, kwargs = arguments_of(x)
        problem.batch_loss(wrapped(*args, **kwargs), y).backward()
        return {name: one.grad_sample for name, one in parameters.items()}

    return rows


def _replace_recurrent(model: Any) -> None:
    """Put Opacus' own layers in the place of LSTM and GRU, as its ModuleValidator does; names of parameters stay."""
    from opacus.validators import ModuleValidator

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ in REPLACED_LAYERS:
                layer = ModuleValidator.FIXERS[type(child)](child).to(next(child.parameters()))
                setattr(parent, name, layer.train(child.training))


hooks = partial(_rows, mode="hooks")
functorch = partial(_rows, mode="functorch", force_functorch=True)
expanded = partial(_rows, mode="ew")
