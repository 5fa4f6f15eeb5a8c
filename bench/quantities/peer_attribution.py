"""captum, TRAK and dattri: what data attribution makes of per-sample gradients, by their own functions."""

from __future__ import annotations

from functools import partial

import torch
from peer_rows import finisher
from quantity_ways import Refused, peer

PRODUCTS = ("inner K=1", "inner K=8", "gram", "gram other")


@peer("captum TracInCP", "captum", *PRODUCTS)
def captum_rows(setting):
    """Build the Jacobian of captum's TracInCP with its trick for single samples, and products of its rows."""
    if not isinstance(setting.x, torch.Tensor):
        raise Refused("captum's TracInCP calls a model with tensors by position")
    from captum._utils.gradient import _compute_jacobian_wrt_params_with_sample_wise_trick as jacobian

    problem = setting.copied()
    names = list(problem.parameters())

    def summed(output, y):
        return problem.losses(output, y).sum()

    def rows(x, y):
        return dict(zip(names, jacobian(problem.model, (x,), y, summed, "sum"), strict=True))

    return finisher(setting, rows)


def functional_rows(setting):
    """Return `rows(x, y)` as TRAK and dattri have them: `vmap(grad(loss))`."""
    theta = {name: part.detach() for name, part in setting.problem.parameters().items()}
    return partial(torch.func.vmap(torch.func.grad(setting.problem.loss), (None, 0, 0)), theta)


@peer("trak BasicProjector", "traker", "project gaussian", module="trak", projects=True)
def trak(setting):
    """Build functional rows and TRAK's projector that runs without CUDA; its entries are N(0, 1), ours N(0, 1/size)."""
    from trak.projectors import BasicProjector, ProjectionType

    rows, size = functional_rows(setting), setting.options["size"]
    entries = sum(part.numel() for part in setting.problem.parameters().values())
    projector = BasicProjector(entries, size, setting.options["seed"], ProjectionType.normal, "cpu", size)
    return lambda: projector.project(rows(setting.x, setting.y), model_id=0) / size**0.5


@peer("dattri random_project", "dattri", "project gaussian", projects=True)
def dattri(setting):
    """Build functional rows and dattri's random projection."""
    from dattri.func.projection import random_project

    rows, options = functional_rows(setting), setting.options
    theta = {name: part.detach() for name, part in setting.problem.parameters().items()}
    project = random_project(
        {name: part[None] for name, part in theta.items()}, setting.n, proj_dim=options["size"], proj_max_batch_size=32,
        proj_seed=options["seed"], device="cpu",
    )  # fmt: skip
    return lambda: project(rows(setting.x, setting.y))
