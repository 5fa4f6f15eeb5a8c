"""torch's own: `vmap(grad(loss))` as in its tutorial on per-sample gradients, and expanded weights."""

from __future__ import annotations

from typing import Any

from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tool_audit.tools.arguments import RowsFunction, arguments_of, batch_of, loss_of_one


def functional(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by torch.func."""
    from torch.func import grad, vmap

    of_all = vmap(grad(loss_of_one(problem)), in_dims=(None, None, 0, 0))

    def rows(x: Any, y: Any) -> Any:
        x, y, _ = batch_of(problem, x, y)
        parameters = {name: one.detach() for name, one in problem.parameters().items()}
        return of_all(parameters, dict(problem.model.named_buffers()), x, y)

    return rows


def expanded_weights(problem: ModuleProblem) -> RowsFunction:
    """Make `f(x, y)` by `call_for_per_sample_grads`."""
    from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

    def rows(x: Any, y: Any) -> dict[str, Any]:
        x, y, n = batch_of(problem, x, y)
        parameters = problem.parameters()
        for one in parameters.values():
            one.grad = None
            vars(one).pop("grad_sample", None)
        args, kwargs = arguments_of(x)
        wrap: Any = call_for_per_sample_grads
        model = wrap(problem.model, batch_size=n, loss_reduction=problem.reduction)
        problem.batch_loss(model(*args, **kwargs), y).backward()
        return {name: getattr(one, "grad_sample", None) for name, one in parameters.items()}

    return rows
