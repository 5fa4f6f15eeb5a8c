"""captum, TRAK, dattri and bergson: what data attribution makes of per-sample gradients, by their own functions."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from peer_rows import finisher
from quantity_parts import Part
from quantity_ways import Mapped, Refused, peer

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
    one = {name: part[None] for name, part in theta.items()}
    project = random_project(one, 1, options["size"], 32, options["seed"], "normal", device="cpu")
    return lambda: project(rows(setting.x, setting.y))


SIDE = 22
"""Of bergson's projections, squares: 484 numbers for each layer."""


SEQUENCE_AXES = 3


@peer("bergson collector", "bergson", "project factored")
def bergson(setting):
    """Build bergson's hooks on linear maps, which project each layer's gradient from both sides; nothing else is."""
    if not isinstance(setting.x, dict):
        raise Refused("bergson takes models of transformers, whose layers see sequences")
    from bergson.collector.collector import HookCollectorBase
    from bergson.gradients import GradientProcessor

    class Collected(HookCollectorBase):
        def setup(self):
            """Have nothing to set up."""

        def teardown(self):
            """Have nothing to write."""

        def process_batch(self, indices, **more):
            """Have nothing to do with a batch."""

        def backward_hook(self, module, g):
            """Keep the projections of a layer."""
            self.mod_grads[f"{module._name}.weight"] = self._compute_gradient(module, g)

    problem, processor = setting.copied(), GradientProcessor(projection_dim=SIDE)
    trained = {name.removesuffix(".weight") for name in problem.parameters() if name.endswith(".weight")}
    trained &= _with_sequences(problem, setting.x)
    collector = Collected(model=problem.model, processor=processor, target_modules=trained)

    def compute():
        collector.mod_grads = {}
        with collector:
            problem.losses(problem.output(setting.x), setting.y).sum().backward()
        problem.model.zero_grad(set_to_none=True)
        return collector.mod_grads

    return Mapped(compute, partial(_two_sided, processor, problem.model))


def _with_sequences(problem, x):
    """Names of the layers whose inputs have three axes, the only ones that bergson takes."""
    found, hooks = set(), []
    for name, layer in problem.model.named_modules():

        def note(layer, inputs, name=name):
            if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].ndim == SEQUENCE_AXES:
                found.add(name)

        hooks.append(layer.register_forward_pre_hook(note))
    problem.output(x)
    for hook in hooks:
        hook.remove()
    return found


def _two_sided(processor, model, truth, at, found):
    """Parts that projections by bergson's own matrices must be."""
    cpu, parts = torch.device("cpu"), []
    for name in found:
        layer = name.removesuffix(".weight")
        left, right = (processor._projection_matrices[layer, side, cpu].double().numpy() for side in ("left", "right"))
        rows = truth.rows[:, truth.places[name]].reshape(len(truth.rows), *truth.truth.theta[name].shape)
        rows = rows if isinstance(model.get_submodule(layer), torch.nn.Linear) else rows.swapaxes(1, 2)
        value = (left @ rows @ right.T).reshape(len(rows), -1)
        parts.append(Part(name, value, (truth.scale * np.linalg.norm(left) * np.linalg.norm(right))[:, None], at))
    return parts
