"""torch, one forward and one backward pass: per-sample gradients of any module from what passes its layers."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem

CHUNK = 1 << 20


@declare("torch.hooks.per_sample", problems=ModuleProblem, out=True)
def per_sample(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build outer products of activations and output gradients, written into their place; `chunk` samples at a time."""
    from gradkernels.engines.hooks import quantities

    return quantities.per_sample(problem, chunk)


@declare("torch.hooks.norms", problems=ModuleProblem, out=True)
def norms(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build norms without rows, where the layer's algebra allows."""
    from gradkernels.engines.hooks import quantities

    return quantities.norms(problem, chunk)


@declare("torch.hooks.clipped_sum", problems=ModuleProblem)
def clipped_sum(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build book-keeping: output gradients are kept until the norms are known; no rows and no second backward pass."""
    from gradkernels.engines.hooks import quantities

    return quantities.clipped_sum(problem, chunk)


@declare("torch.hooks.clipped_sum_by", problems=ModuleProblem)
def clipped_sum_by(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build sums cut by groups of parameters, each taken as soon as the last of its parameters has come; no rows."""
    from gradkernels.engines.hooks import clipped_sums

    return clipped_sums.clipped_sum_by(problem, chunk)


@declare("torch.hooks.moments", problems=ModuleProblem)
def moments(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build mean and variance from sums of squares, where the layer's algebra allows."""
    from gradkernels.engines.hooks import quantities

    return quantities.moments(problem, chunk)


@declare("torch.hooks.gradient", problems=ModuleProblem)
def gradient(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build the mean, `chunk` samples at a time: what stays within memory that a whole batch does not."""
    from gradkernels.engines.hooks import quantities

    return quantities.gradient(problem, chunk)


@declare("torch.reweighted.clipped_sum", problems=ModuleProblem)
def reweighted_sum(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build norms in one backward pass, then a second one of the losses times their factors; the least memory."""
    from gradkernels.engines.hooks import quantities

    return quantities.reweighted_sum(problem, chunk)


@declare("torch.hooks.weighted_sum", problems=ModuleProblem)
def weighted_sum(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build one backward pass for all weightings, of the weighted losses where there is one; no rows."""
    from gradkernels.engines.hooks import products

    return products.weighted_sum(problem, chunk)


@declare("torch.hooks.inner", problems=ModuleProblem)
def inner(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build inner products with directions, without rows where the layer's algebra allows."""
    from gradkernels.engines.hooks import products

    return products.inner(problem, chunk)


@declare("torch.hooks.gram", problems=ModuleProblem)
def gram(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build inner products of samples, without rows where the layer's algebra allows; in blocks of `chunk` samples."""
    from gradkernels.engines.hooks import pairs

    return pairs.gram(problem, chunk)


@declare("torch.hooks.gram_by", problems=ModuleProblem)
def gram_by(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build inner products of samples over groups of parameters, each layer's added to its group's."""
    from gradkernels.engines.hooks import pairs

    return pairs.gram_by(problem, chunk)


@declare("torch.hooks.norms_by", problems=ModuleProblem)
def norms_by(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build norms over groups of parameters, without rows where the layer's algebra allows."""
    from gradkernels.engines.hooks import products

    return products.norms_by(problem, chunk)


@declare("torch.hooks.project", problems=ModuleProblem)
def project(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build random projections, of linear maps by small factors from both sides, without rows."""
    from gradkernels.engines.hooks import products

    return products.project(problem, chunk)


@declare("torch.hooks.jacobian", problems=ModuleProblem, out=True)
def jacobian(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build one forward pass, and a backward pass through it for several outputs; with a `chunk` for one at a time."""
    from gradkernels.engines.hooks import outputs

    return outputs.jacobian(problem, None if chunk == CHUNK else chunk)


@declare("torch.hooks.group_sums", problems=ModuleProblem)
def group_sums(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build sums by group as the gradients arrive, from rows of one parameter at a time, a few samples'."""
    from gradkernels.engines.hooks import products

    return products.group_sums(problem, chunk)
