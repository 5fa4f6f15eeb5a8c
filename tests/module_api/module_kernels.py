"""Kernels of modules that a test declares: right, wrong, or failing."""

from dataclasses import replace

import gradkernels as gk
from gradkernels.quantity import QUANTITIES


def declared(name, quantity, builder, **options):
    return replace(gk.kernel("torch.loop.per_sample"), name=name, quantity=QUANTITIES[quantity], loops=False,
                   out=False, builder=builder, **options)  # fmt: skip


def doubled(problem):
    compute = gk.kernel("torch.loop.per_sample").build(problem)
    return lambda theta, x, y: {name: 2 * rows for name, rows in compute(theta, x, y).items()}


def breaks(problem):
    raise NotImplementedError("not this model\nat all")


def instead(change):
    """The right way, with `change` of its rows for the result."""

    def build(problem):
        compute = gk.kernel("torch.loop.per_sample").build(problem)
        return lambda theta, x, y: change(compute(theta, x, y))

    return declared("wrong", "per_sample", build)


def inputs_of(problem, x, y, dtype="float64"):
    theta = {name: one.detach().numpy().astype(dtype) for name, one in problem.parameters().items()}
    return theta, x.numpy().astype(dtype), y.numpy()
