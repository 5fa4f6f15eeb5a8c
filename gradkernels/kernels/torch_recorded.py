"""torch.hooks without its Python: recorded once for each kind of input, and run by an interpreter of operations.

Recording takes as long as a few hundred calls of a small model, and holds for any number of samples.
"""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.problems.module.module_problem import ModuleProblem

CHUNK = 1 << 20

CALLS = 100
"""Calls of a kind of input that take about as long as recording it."""


@declare("torch.recorded.per_sample", problems=ModuleProblem, out=True, pays_after=CALLS)
def per_sample(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build outer products of activations and output gradients, written into their place; `chunk` samples at a time."""
    from gradkernels.engines.recorded import quantities

    return quantities.per_sample(problem, chunk)


@declare("torch.recorded.norms", problems=ModuleProblem, out=True, pays_after=CALLS)
def norms(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build norms without rows, where the layer's algebra allows."""
    from gradkernels.engines.recorded import quantities

    return quantities.norms(problem, chunk)


@declare("torch.recorded.gradient", problems=ModuleProblem, pays_after=CALLS)
def gradient(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build the mean, one product for each layer."""
    from gradkernels.engines.recorded import quantities

    return quantities.gradient(problem, chunk)


@declare("torch.recorded.clipped_sum", problems=ModuleProblem, pays_after=CALLS)
def clipped_sum(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build book-keeping: output gradients are kept until the norms are known; no rows and no second backward pass."""
    from gradkernels.engines.recorded import quantities

    return quantities.clipped_sum(problem, chunk)


@declare("torch.recorded.clipped_sum_by", problems=ModuleProblem, pays_after=CALLS)
def clipped_sum_by(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build sums cut by groups of parameters, each taken as soon as the last of its parameters has come."""
    from gradkernels.engines.recorded import clipped_sums

    return clipped_sums.clipped_sum_by(problem, chunk)


@declare("torch.recorded.moments", problems=ModuleProblem, pays_after=CALLS)
def moments(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build mean and variance from sums of squares, where the layer's algebra allows."""
    from gradkernels.engines.recorded import quantities

    return quantities.moments(problem, chunk)


@declare("torch.recorded.weighted_sum", problems=ModuleProblem, pays_after=CALLS)
def weighted_sum(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build one backward pass for all weightings, of the weighted losses where there is one; no rows."""
    from gradkernels.engines.recorded import products

    return products.weighted_sum(problem, chunk)


@declare("torch.recorded.group_sums", problems=ModuleProblem, pays_after=CALLS)
def group_sums(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build sums by group as the gradients arrive, from rows of one parameter at a time."""
    from gradkernels.engines.recorded import products

    return products.group_sums(problem, chunk)


@declare("torch.recorded.inner", problems=ModuleProblem, pays_after=CALLS)
def inner(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build inner products with directions, without rows where the layer's algebra allows."""
    from gradkernels.engines.recorded import products

    return products.inner(problem, chunk)


@declare("torch.recorded.gram", problems=ModuleProblem, pays_after=CALLS)
def gram(problem: ModuleProblem) -> Compute:
    """Build inner products of samples, all in one pass, without rows where the layer's algebra allows."""
    from gradkernels.engines.recorded import products

    return products.gram(problem)


@declare("torch.recorded.gram_by", problems=ModuleProblem, pays_after=CALLS)
def gram_by(problem: ModuleProblem) -> Compute:
    """Build inner products of samples over groups of parameters, all in one pass."""
    from gradkernels.engines.recorded import products

    return products.gram_by(problem)


@declare("torch.recorded.norms_by", problems=ModuleProblem, pays_after=CALLS)
def norms_by(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build norms over groups of parameters, without rows where the layer's algebra allows."""
    from gradkernels.engines.recorded import products

    return products.norms_by(problem, chunk)


@declare("torch.recorded.project", problems=ModuleProblem, pays_after=CALLS)
def project(problem: ModuleProblem, chunk: int = CHUNK) -> Compute:
    """Build random projections, of linear maps by small factors from both sides, without rows."""
    from gradkernels.engines.recorded import products

    return products.project(problem, chunk)
