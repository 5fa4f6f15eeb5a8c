"""Robust covariances, by every kernel of the meat, as statsmodels has them and as linearmodels printed them."""

import numpy as np
import pytest

import gradkernels as gk

N = 60
RNG = np.random.default_rng(7)
X, GROUPS = RNG.standard_normal((N, 2)), np.arange(N) % 7
Y = 1 + X @ [0.5, -2.0] + RNG.standard_normal(N) * (1 + abs(X[:, 0]))
DESIGN = np.c_[np.ones(N), X]
LABELS = (Y > 0) * 1.0
KINDS = {"robust": {}, "clustered": {"groups": GROUPS}}
# linearmodels 7.1, for x = X, y = Y:
#   IV2SLS(y, np.c_[np.ones(60), x], None, None).fit(debiased=False, cov_type="robust").cov
#   IV2SLS(y, np.c_[np.ones(60), x], None, None).fit(debiased=False, cov_type="clustered", clusters=groups).cov
PRINTED = {
    "robust": [
        [0.02743489154064159, -0.01902430194395231, 0.00185542152510045],
        [-0.01902430194395231, 0.12699361455122238, 0.00662841566793124],
        [0.00185542152510045, 0.00662841566793124, 0.02424225408662938],
    ],
    "clustered": [
        [0.03628539510571032, -0.01234971085277143, 0.00033551076701045],
        [-0.01234971085277143, 0.1036908510315344, 0.01278094978421334],
        [0.00033551076701045, 0.01278094978421334, 0.01836079062203032],
    ],
}
WAYS = [kernel.way for kernel in gk.kernels(gk.LinearRegression(), "outer") if not kernel.compiles]


def meats(problem, theta, y, **options):
    """The meat by each kernel that there is here."""
    for way in WAYS:
        if not gk.kernel(f"{way}.outer").unsupported(gk.Case(problem, "outer", N, features=2)):
            yield way, gk.outer(problem, theta, X, y, kernel=way, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_as_linearmodels_and_statsmodels(kind):
    import statsmodels.api as sm
    from statsmodels.stats import sandwich_covariance

    fit = sm.OLS(Y, DESIGN).fit()
    own = {
        "robust": lambda: fit.get_robustcov_results("HC0").cov_params(),
        "clustered": lambda: sandwich_covariance.cov_cluster(fit, GROUPS, use_correction=False),
    }[kind]()
    bread = np.linalg.inv(2 * DESIGN.T @ DESIGN)  # of the loss (theta . x - y)^2, whose gradients are twice the scores
    for way, meat in meats(gk.LinearRegression(), fit.params, Y, **KINDS[kind]):
        np.testing.assert_allclose(bread @ meat @ bread, own, rtol=1e-9, atol=1e-14, err_msg=way)
        np.testing.assert_allclose(bread @ meat @ bread, PRINTED[kind], rtol=1e-9, atol=1e-12, err_msg=way)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_logistic_model_as_statsmodels(kind):
    """BHHH's sum over samples, and Liang and Zeger's over clusters."""
    import statsmodels.api as sm
    from statsmodels.stats import sandwich_covariance

    theta, model = np.array([0.3, -0.2, 0.7]), sm.Logit(LABELS, DESIGN)
    scores = model.score_obs(theta)
    meat = {"robust": sandwich_covariance.S_white_simple, "clustered": sandwich_covariance.S_crosssection}[kind]
    want = meat(scores, *KINDS[kind].values())
    for way, found in meats(gk.LogisticRegression(), theta, LABELS, **KINDS[kind]):
        np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12, err_msg=way)
