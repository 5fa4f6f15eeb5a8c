"""JAX: one forward and one backward pass to taps on its equations; norms and sums of weights without their rows."""

from __future__ import annotations

from gradkernels.kernel import Compute, declare
from gradkernels.problems import FunctionProblem


@declare("jax.hooks.norms", problems=FunctionProblem)
def norms(problem: FunctionProblem) -> Compute:
    """Build norms, of weights from what goes into their matrix products and what comes back."""
    from gradkernels.engines.taps import quantities

    return quantities.norms(problem)


@declare("jax.hooks.clipped_sum", problems=FunctionProblem)
def clipped_sum(problem: FunctionProblem) -> Compute:
    """Build the clipped sum: norms, and then one weighted product for each weight, from the same pass."""
    from gradkernels.engines.taps import quantities

    return quantities.clipped_sum(problem)


@declare("jax.hooks.inner", problems=FunctionProblem)
def inner(problem: FunctionProblem) -> Compute:
    """Build inner products with directions, of weights without their rows."""
    from gradkernels.engines.taps import quantities

    return quantities.inner(problem)


@declare("jax.hooks.gram", problems=FunctionProblem)
def gram(problem: FunctionProblem) -> Compute:
    """Build inner products of samples, of weights that are used once a sample without their rows."""
    from gradkernels.engines.taps import quantities

    return quantities.gram(problem)


@declare("jax.hooks.weighted_sum", problems=FunctionProblem)
def weighted_sum(problem: FunctionProblem) -> Compute:
    """Build weighted sums, one product for each weight."""
    from gradkernels.engines.taps import quantities

    return quantities.weighted_sum(problem)


@declare("jax.hooks.norms_by", problems=FunctionProblem)
def norms_by(problem: FunctionProblem) -> Compute:
    """Build norms over groups of parameters, of weights without their rows."""
    from gradkernels.engines.taps import quantities

    return quantities.norms_by(problem)


@declare("jax.hooks.moments", problems=FunctionProblem)
def moments(problem: FunctionProblem) -> Compute:
    """Build mean and variance, of weights that are used once a sample without their rows."""
    from gradkernels.engines.taps import quantities

    return quantities.moments(problem)


@declare("jax.hooks.project", problems=FunctionProblem)
def project(problem: FunctionProblem) -> Compute:
    """Build random projections; factored ones of weights without their rows."""
    from gradkernels.engines.taps import quantities

    return quantities.project(problem)
