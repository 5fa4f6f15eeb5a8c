"""statsmodels' generalized linear models: the score of each observation, in our conventions."""

from __future__ import annotations

import math

import numpy as np

from gradkernels.case import Case
from gradkernels.kernel import Compute, declare
from gradkernels.problems import LinearRegression, LogisticRegression, PoissonRegression, Regression
from gradkernels.truth import Floats

FAMILIES: dict[type, tuple[str, float]] = {
    LinearRegression: ("Gaussian", 2.0),
    LogisticRegression: ("Binomial", 1.0),
    PoissonRegression: ("Poisson", 1.0),
}
"""By problem: the family whose negative log-likelihood it is, up to a constant and the factor given."""

SMALLEST_LOG_RATE = math.log(np.finfo(np.float64).eps)


def _refuses(case: Case) -> list[str]:
    reasons = []
    if type(case.problem) not in FAMILIES:
        known = ", ".join(kind.__name__ for kind in FAMILIES)
        reasons.append(f"statsmodels has no GLM family for {type(case.problem).__name__}; it has those of {known}")
    if case.dtype != "float64":
        reasons.append(f"statsmodels computes in float64 only, not in {case.dtype}")
    return reasons


@declare("statsmodels.score_obs.per_sample", problems=Regression, refuses=_refuses)
def per_sample(problem: Regression) -> Compute:
    """Build `GLM(...).score_obs(theta, scale=1)`, times -1 or -2, plus our penalty.

    A GLM holds its data, so the model is made in each call: its checks and copies are part of what its user pays.
    Its score is (y - mu) / (link' variance). For Poisson these parts overflow before the whole, so that rows are
    infinite or NaN from eta = 355 already; and it holds rates below the machine precision for that number, which
    would give wrong rows, so that these raise a ValueError.
    """
    from statsmodels.genmod import families
    from statsmodels.genmod.generalized_linear_model import GLM

    name, factor = FAMILIES[type(problem)]
    first = int(problem.fit_intercept)

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        if not len(x):
            return np.empty((0, *theta.shape), theta.dtype)
        target, weight = problem.split(y)
        design = problem.design(x)
        finite = np.isfinite(design)
        sound = design if finite.all() else np.where(finite, design, 0.0)
        # Said to have no constant, it does not look for one.
        model = GLM(target, sound, getattr(families, name)(), var_weights=weight, hasconst=False)
        if name == "Poisson":
            _representable(design @ theta)
        model.exog = design  # of what is not finite, the model would find no rank when it is made
        with np.errstate(over="ignore"):  # of e^-eta, where the logistic function is 0
            rows = model.score_obs(theta, scale=1.0)
        rows *= -factor
        if problem.l2:
            rows[:, first:] += problem.l2 * theta[first:]
        return rows

    return compute


def _representable(eta: Floats) -> None:
    lowest = eta[np.isfinite(eta)].min(initial=0.0)
    if lowest < SMALLEST_LOG_RATE:
        given = f"statsmodels takes rates below 2.2e-16 for 2.2e-16, here e^{lowest:.4g}"
        raise ValueError(f"{given}, and its rows would be wrong; use another kernel")
