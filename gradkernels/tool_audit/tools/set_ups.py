"""The list of named set-ups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SetUp:
    """How a library gives per-sample gradients.

    Attributes:
        name: As it is asked for.
        where: `module:function` in this package.
        package: Name of the distribution.
        imported: Name that it is imported by.
        summary: What is called, in a line.
        of_functions: Whether it differentiates functions of JAX, and not models of torch.
    """

    name: str
    where: str
    package: str
    imported: str
    summary: str
    of_functions: bool = False


SET_UPS = {
    one.name: one
    for one in (
        SetUp("opacus", "opacus:hooks", "opacus", "opacus", "GradSampleModule, hooks"),
        SetUp("opacus_functorch", "opacus:functorch", "opacus", "opacus", "GradSampleModule, force_functorch=True"),
        SetUp("opacus_ew", "opacus:expanded", "opacus", "opacus", "GradSampleModuleExpandedWeights"),
        SetUp("backpack", "backpack:batch_grad", "backpack-for-pytorch", "backpack", "BatchGrad, times n"),
        SetUp("vmap", "torch_tools:functional", "torch", "torch", "vmap(grad(loss)) of torch.func"),
        SetUp("expanded_weights", "torch_tools:expanded_weights", "torch", "torch", "call_for_per_sample_grads"),
        SetUp("trak", "attribution:trak", "traker", "trak", "FunctionalGradientComputer"),
        SetUp("dattri", "attribution:dattri", "dattri", "dattri", "AttributionTask.get_grad_loss_func"),
        SetUp("captum", "attribution:captum", "captum", "captum", "TracInCP's gradients, sample-wise"),
        SetUp("laplace", "laplace:gradients", "laplace-torch", "laplace", "EFInterface.gradients"),
        SetUp("torchjd", "torchjd:jacobian", "torchjd", "torchjd", "autojac.jac of the losses"),
        SetUp("jax_privacy", "jax_privacy:clipped", "jax_privacy", "jax_privacy", "clipped_grad", of_functions=True),
    )
}
"""Every set-up by name."""

USUAL_DTYPES = ("float64", "float32", "float16")
"""That an audit tries besides the dtype of the parameters."""
