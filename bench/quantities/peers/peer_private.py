"""Opacus and BackPACK: rows, norms by layer, clipping by layer and by ghost norms, as their users run them."""

from __future__ import annotations

import torch
from peer_rows import ALL, finisher
from quantity_ways import Refused, peer

import gradkernels as gk
from gradkernels.engines.peers import backpack as backpack_limits
from gradkernels.engines.peers import opacus as opacus_limits

ROWS = tuple(label for label in ALL if not label.startswith(("project", "weighted_sum K=8")))


def _rows(setting, key):
    kernel = gk.kernel(key)
    if reasons := kernel.unsupported(setting.case()):
        raise Refused("; ".join(reasons))
    compute, theta = kernel.build(setting.problem), setting.problem.parameters()
    return finisher(setting, lambda x, y: compute(theta, x, y))


@peer("opacus rows", "opacus", *ROWS)
def opacus_rows(setting):
    """Build Opacus' hooks, and what is asked from their rows."""
    return _rows(setting, "opacus.hooks.per_sample")


@peer("backpack rows", "backpack-for-pytorch", *ROWS, module="backpack")
def backpack_rows(setting):
    """Build BackPACK's `BatchGrad`, and what is asked from its rows."""
    return _rows(setting, "backpack.batch.per_sample")


@peer("backpack batch_l2", "backpack-for-pytorch", "norms by=parameter", module="backpack")
def batch_l2(setting):
    """Build BackPACK's `BatchL2Grad`, the squared norms of each parameter."""
    if reasons := backpack_limits.refuses_norms(setting.case()):
        raise Refused("; ".join(reasons))
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    problem = setting.copied()
    parameters, extension = problem.parameters(), BatchL2Grad()
    extend(problem.model)

    def compute():
        losses = problem.losses(problem.output(setting.x), setting.y)
        with backpack(extension):
            losses.sum().backward()
        found = {name: parameter.batch_l2.sqrt().detach() for name, parameter in parameters.items()}
        for parameter in parameters.values():
            parameter.grad = None
            del parameter.batch_l2
        return found

    return compute


@peer("opacus per-layer", "opacus", "clipped_sum by=parameter")
def per_layer(setting):
    """Build Opacus' hooks and its optimizer that clips each parameter's rows by themselves."""
    if reasons := opacus_limits.refuses_rules(setting.case()):
        raise Refused("; ".join(reasons))
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPPerLayerOptimizer

    problem = setting.copied()
    parameters = problem.parameters()
    model = GradSampleModule(opacus_limits.set_training(problem.model), loss_reduction="sum")
    optimizer = DPPerLayerOptimizer(
        torch.optim.SGD(parameters.values(), lr=0.0), noise_multiplier=0.0, expected_batch_size=1,
        max_grad_norm=[setting.options["max_norm"]] * len(parameters), loss_reduction="sum",
    )  # fmt: skip

    def compute():
        problem.losses(call(model, setting.x), setting.y).sum().backward()
        optimizer.clip_and_accumulate()
        found = {name: parameter.summed_grad for name, parameter in parameters.items()}
        optimizer.zero_grad()
        return found

    return compute


@peer("opacus ghost", "opacus", "clipped_sum norms_out")
def ghost(setting):
    """Build Opacus' ghost clipping: norms in one backward pass, the clipped sum in a second one."""
    if reasons := opacus_limits.refuses_ghost(setting.case()):
        raise Refused("; ".join(reasons))
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    problem, max_norm = setting.copied(), setting.options["max_norm"]
    parameters = problem.parameters()
    model = GradSampleModuleFastGradientClipping(
        opacus_limits.set_training(problem.model), loss_reduction="sum", use_ghost_clipping=True, max_grad_norm=max_norm
    )

    def compute():
        losses = problem.losses(call(model, setting.x), setting.y)
        losses.sum().backward(retain_graph=True)
        norms = model.get_norm_sample().detach()
        model.zero_grad(set_to_none=True)
        model.disable_hooks()
        ((max_norm / norms).clip(max=1.0) * losses).sum().backward()
        model.enable_hooks()
        found = {name: parameter.grad for name, parameter in parameters.items()}
        model.zero_grad(set_to_none=True)
        return found, norms

    return compute


def call(model, x):
    """Call a model with a tensor, or with a dict by name."""
    return model(**x) if isinstance(x, dict) else model(x)
