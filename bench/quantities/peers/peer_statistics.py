"""statsmodels and linearmodels: the meat of robust covariances of a regression at given parameters."""

from __future__ import annotations

import numpy as np
from quantity_ways import Refused, peer

OUTER = ("outer", "outer groups of 5000")
OURS_IN_THEIRS = 4.0
"""The loss of `linear` is the squared error, without their one-half."""


@peer("statsmodels scores", "statsmodels", *OUTER)
def scores(setting):
    """Build the scores of each observation and the matrix S of robust or clustered covariances of them."""
    from statsmodels.api import Logit
    from statsmodels.stats.sandwich_covariance import S_crosssection, S_white_simple

    (theta, x, y), groups = (setting.theta, setting.x, setting.y), setting.options.get("groups")
    design = np.c_[np.ones(len(x)), x]
    logit = Logit(y, design) if setting.problem.name == "logistic" else None

    def compute():
        rows = logit.score_obs(theta) if logit is not None else 2.0 * (design @ theta - y)[:, None] * design
        return S_white_simple(rows) if groups is None else S_crosssection(rows, groups)

    return compute


@peer("linearmodels covariance", "linearmodels", *OUTER)
def covariance(setting):
    """Build the matrix S of linearmodels' robust or clustered covariance of least squares."""
    if setting.problem.name != "linear":
        raise Refused(f"linearmodels has no {setting.problem.name} regression")
    from linearmodels.iv.covariance import ClusteredCovariance, HeteroskedasticCovariance

    (theta, x, y), groups = (setting.theta, setting.x, setting.y), setting.options.get("groups")
    design, target, parameters = np.c_[np.ones(len(x)), x], y[:, None], theta[:, None]
    given, clusters = (design, target, design, parameters), None if groups is None else groups[:, None]

    def compute():
        if clusters is None:
            return OURS_IN_THEIRS * len(x) * HeteroskedasticCovariance(*given).s
        return OURS_IN_THEIRS * len(x) * ClusteredCovariance(*given, clusters=clusters).s

    return compute
