"""Robust standard errors of fitted models: equal to those of statsmodels and linearmodels."""

import numpy as np
import pytest

statsmodels = pytest.importorskip("statsmodels.api", reason="needs statsmodels")
import pandas  # noqa: E402
import statsmodels.formula.api as formulas  # noqa: E402

from gradkernels.adapters.statsmodels import robust  # noqa: E402

N = 200
RNG = np.random.default_rng(3)
X = np.c_[np.ones(N), RNG.standard_normal((N, 3))]
ETA = X @ [0.2, 0.5, -0.4, 0.1]
TARGETS = {
    "linear": ETA + RNG.standard_normal(N) * (1 + abs(X[:, 1])),
    "binary": (RNG.logistic(size=N) < ETA) * 1.0,
    "counts": RNG.poisson(np.exp(ETA)) * 1.0,
}
GROUPS = np.array(["a", "b", "c", "d", "e", "f", "g"])[RNG.integers(0, 7, N)]
TWO_WAYS = np.c_[RNG.integers(0, 7, N), RNG.integers(0, 9, N)]
WEIGHTS = RNG.uniform(0.5, 2, N)
FAMILIES = statsmodels.families
MODELS = {
    "OLS": lambda: statsmodels.OLS(TARGETS["linear"], X),
    "WLS": lambda: statsmodels.WLS(TARGETS["linear"], X, weights=WEIGHTS),
    "Logit": lambda: statsmodels.Logit(TARGETS["binary"], X),
    "Poisson": lambda: statsmodels.Poisson(TARGETS["counts"], X),
    "Poisson, exposure": lambda: statsmodels.Poisson(TARGETS["counts"], X, exposure=WEIGHTS, offset=WEIGHTS / 2),
    "GLM Gaussian": lambda: statsmodels.GLM(TARGETS["linear"], X),
    "GLM Binomial": lambda: statsmodels.GLM(TARGETS["binary"], X, FAMILIES.Binomial()),
    "GLM Poisson": lambda: statsmodels.GLM(
        TARGETS["counts"], X, FAMILIES.Poisson(), offset=WEIGHTS, var_weights=WEIGHTS
    ),
}
COVARIANCES = {
    "HC0": ({}, {"cov_type": "HC0"}),
    "cluster": ({"groups": GROUPS}, {"cov_type": "cluster", "cov_kwds": {"groups": GROUPS}}),
    "uncorrected": (
        {"groups": GROUPS, "correction": False},
        {"cov_type": "cluster", "cov_kwds": {"groups": GROUPS, "use_correction": False}},
    ),
    "two ways": ({"groups": TWO_WAYS}, {"cov_type": "cluster", "cov_kwds": {"groups": TWO_WAYS}}),
}


def fit(name, **options):
    return MODELS[name]().fit(**({"disp": False} if name.startswith(("Logit", "Poisson")) else {}), **options)


@pytest.fixture(scope="module")
def fitted():
    return {name: fit(name) for name in MODELS}


@pytest.mark.filterwarnings("ignore:cov_type not fully supported with var_weights")
@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("name", MODELS)
def test_standard_errors_are_those_of_statsmodels(name, kind, fitted):
    ours, theirs = COVARIANCES[kind]
    found, wanted = robust(fitted[name], **ours), fit(name, **theirs)
    np.testing.assert_allclose(found.bse, wanted.bse, rtol=1e-10)
    np.testing.assert_allclose(found.cov_params(), wanted.cov_params(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found.tvalues, wanted.tvalues, rtol=1e-10)


def test_hc1_is_the_correction_without_groups(fitted):
    np.testing.assert_allclose(robust(fitted["OLS"], correction=True), fitted["OLS"].HC1_se, rtol=1e-10)


DEPENDENT = np.c_[X, X[:, 1] - X[:, 2]]
"""A design of five columns and rank four."""


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
@pytest.mark.parametrize(
    ("ours", "theirs"), [({"correction": True}, {"cov_type": "HC1"}), COVARIANCES["cluster"]], ids=["HC1", "cluster"]
)
@pytest.mark.parametrize("model", [statsmodels.OLS, statsmodels.WLS])
def test_corrections_of_a_design_of_less_rank_are_those_of_statsmodels(model, ours, theirs):
    model = model(TARGETS["linear"], DEPENDENT)
    np.testing.assert_allclose(robust(model.fit(), **ours).bse, model.fit(**theirs).bse, rtol=1e-8)


def removed():
    result = fit("GLM Poisson")
    result.remove_data()
    return result


def of_few():
    return statsmodels.OLS(TARGETS["linear"][:4], X[:4]).fit()


def refitted(kind, y, **options):
    return getattr(statsmodels, kind)(y, X, **options).fit_regularized(alpha=0.05, L1_wt=1, refit=True)


def undetermined(y, family):
    return statsmodels.GLM(y, DEPENDENT, family).fit()


def test_a_design_of_columns_far_apart_in_size_is_determined():
    wide = statsmodels.GLM(TARGETS["counts"], X * [1, 1e5, 1e-5, 1], FAMILIES.Poisson())
    own = statsmodels.GLM(TARGETS["counts"], X, FAMILIES.Poisson()).fit(cov_type="HC0").bse
    np.testing.assert_allclose(robust(wide.fit()).bse * [1, 1e5, 1e-5, 1], own, rtol=1e-7)


def test_names_of_a_formula_stay():
    fit = formulas.ols("y ~ a", pandas.DataFrame({"y": TARGETS["linear"], "a": X[:, 1]})).fit()
    found = robust(fit)
    np.testing.assert_allclose(found.bse["a"], fit.HC0_se["a"], rtol=1e-10)
    assert found.cov_params().loc["a", "Intercept"] == found.covariance[1, 0]


def constrained():
    return statsmodels.GLM(TARGETS["counts"], X, FAMILIES.Poisson()).fit_constrained("x1 = 0.3")


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
@pytest.mark.parametrize(
    ("result", "options", "error", "says"),
    [
        (lambda: fit("OLS"), {"groups": GROUPS[:-1]}, ValueError, r"groups is \(199,\); it must be \(200,\)"),
        (lambda: fit("OLS"), {"groups": np.zeros(N)}, ValueError, "groups has one group"),
        (lambda: fit("OLS"), {"groups": np.r_[np.nan, np.ones(N - 1)]}, ValueError, "missing"),
        (lambda: statsmodels.RLM(TARGETS["linear"], X).fit(), {}, TypeError, "OLS, WLS, .* not RLMResults"),
        (lambda: statsmodels.Logit(TARGETS["binary"], X).fit_regularized(disp=False), {}, TypeError, "not L1Binary"),
        (
            lambda: statsmodels.GLM(TARGETS["binary"], X, FAMILIES.Binomial(FAMILIES.links.Probit())).fit(),
            {},
            ValueError,
            "Binomial with Probit",
        ),
        (
            lambda: statsmodels.GLM(TARGETS["counts"], X, FAMILIES.Poisson(), freq_weights=WEIGHTS).fit(),
            {},
            ValueError,
            "freq_weights",
        ),
        (constrained, {}, ValueError, "under constraints"),
        (removed, {}, ValueError, r"no data any more \(remove_data\)"),
        (of_few, {"correction": True}, ValueError, "4 observations have 4 parameters; the correction divides"),
        (of_few, {"groups": [0, 0, 1, 1]}, ValueError, "4 observations have 4 parameters; the correction divides"),
        (lambda: refitted("OLS", TARGETS["linear"]), {}, ValueError, "a penalty chose"),
        (lambda: refitted("GLM", TARGETS["binary"], family=FAMILIES.Binomial()), {}, ValueError, "a penalty chose"),
        (lambda: undetermined(TARGETS["linear"], None), {}, ValueError, "does not determine the parameters"),
        (lambda: undetermined(TARGETS["counts"], FAMILIES.Poisson()), {}, ValueError, "does not determine"),
        (lambda: None, {}, TypeError, "not NoneType"),
    ],
)
def test_what_it_has_no_covariance_of_is_refused(result, options, error, says):
    with pytest.raises(error, match=says):
        robust(result(), **options)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("groups", [None, TWO_WAYS[:, 0], TWO_WAYS], ids=["robust", "clustered", "two ways"])
def test_linearmodels_too(groups, debiased):
    pytest.importorskip("linearmodels", reason="needs linearmodels")
    from linearmodels.iv import IV2SLS

    from gradkernels.adapters.linearmodels import robust

    model = IV2SLS(TARGETS["linear"], X, None, None, weights=WEIGHTS)
    kind = {"cov_type": "robust"} if groups is None else {"cov_type": "clustered", "clusters": groups}
    wanted = model.fit(debiased=debiased, **kind)
    found = robust(model.fit(cov_type="unadjusted", debiased=debiased), groups)
    np.testing.assert_allclose(found.bse, wanted.std_errors, rtol=1e-10)
    np.testing.assert_allclose(found.cov_params(), wanted.cov, rtol=1e-9, atol=1e-13)


def test_two_stages_are_no_least_squares():
    pytest.importorskip("linearmodels", reason="needs linearmodels")
    from linearmodels.iv import IV2SLS

    from gradkernels.adapters.linearmodels import robust

    result = IV2SLS(TARGETS["linear"], X[:, :2], X[:, 2:3], X[:, 3:]).fit()
    with pytest.raises(ValueError, match="endogenous variables"):
        robust(result)
