"""Gradients of each training sample's loss, of scikit-learn's linear estimators."""

import numpy as np
import pytest
import torch

linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

from gradkernels.adapters.sklearn import PerSampleGradients  # noqa: E402

N = 60
RNG = np.random.default_rng(5)
X = RNG.standard_normal((N, 3))
ETA = 0.3 + X @ [1.0, -0.5, 0.2]
Y = ETA + RNG.standard_normal(N)
COUNTS = RNG.poisson(np.exp(ETA))
TWO = np.where(RNG.logistic(size=N) < ETA, "yes", "no")
THREE = np.array(["a", "b", "c"])[RNG.integers(0, 3, N)]
WEIGHTS = RNG.uniform(0.5, 2, N)
ALPHA, C = 0.7, 0.4


def with_gradients(name, **settings):
    own = type(name, (PerSampleGradients, getattr(linear_model, name)), {})
    return own(**settings)


def logistic(eta, target):
    return np.logaddexp(0, eta) - (target == "yes") * eta


def huber(estimator):
    """The loss as scikit-learn's manual has it, at the fitted scale."""

    def loss(eta, y):
        z = (eta - y) / estimator.scale_
        inside = abs(z) < estimator.epsilon
        return estimator.scale_ * np.where(inside, z**2, 2 * estimator.epsilon * abs(z) - estimator.epsilon**2)

    return loss


def squared(eta, y):
    return (eta - y) ** 2


CASES = {
    "LinearRegression": (with_gradients("LinearRegression"), Y, squared),
    "no intercept": (with_gradients("Ridge", alpha=ALPHA, fit_intercept=False), Y, squared),
    "Ridge": (with_gradients("Ridge", alpha=ALPHA), Y, squared),
    "Lasso": (with_gradients("Lasso", alpha=0.1), Y, lambda eta, y: squared(eta, y) / 2),
    "ElasticNet": (with_gradients("ElasticNet", alpha=0.1), Y, lambda eta, y: squared(eta, y) / 2),
    "BayesianRidge": (with_gradients("BayesianRidge"), Y, squared),
    "LogisticRegression": (with_gradients("LogisticRegression", C=C), TWO, logistic),
    "PoissonRegressor": (with_gradients("PoissonRegressor"), COUNTS, lambda eta, y: np.exp(eta) - y * eta),
    "HuberRegressor": (with_gradients("HuberRegressor"), Y, huber),
    "SGDClassifier": (with_gradients("SGDClassifier", loss="log_loss", random_state=0), TWO, logistic),
    "SGDRegressor": (with_gradients("SGDRegressor", random_state=0), Y, lambda eta, y: squared(eta, y) / 2),
}


def derivatives(loss, theta, x, y, step=1e-6):
    """Rows by central differences of the loss, the independent oracle."""
    columns = [np.ones(N), *x.T] if len(theta) > x.shape[1] else [*x.T]
    eta = np.stack(columns, 1) @ theta
    slope = (loss(eta + step, y) - loss(eta - step, y)) / (2 * step)
    return np.stack([slope * column for column in columns], 1)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_each_row_is_the_gradient_of_a_samples_loss(name, weights):
    estimator, y, loss = CASES[name]
    estimator = clone(estimator)
    if weights is None:
        estimator.fit(X, y)
    else:
        estimator.fit(X, y, sample_weight=weights)
    loss = loss(estimator) if name == "HuberRegressor" else loss
    theta = np.ravel(estimator.coef_)
    theta = np.r_[estimator.intercept_, theta] if estimator.fit_intercept else theta
    wanted = derivatives(loss, theta, X, y) * (1 if weights is None else weights[:, None])
    np.testing.assert_allclose(estimator.per_sample_gradients_, wanted, rtol=1e-7, atol=1e-7)


def margins(of_margin):
    """The loss of several classes, each against all others, or of two."""

    def loss(eta, y, classes):
        sign = np.where(y[:, None] == (classes if len(classes) > 2 else classes[1:]), 1.0, -1.0)
        return of_margin(torch.from_numpy(sign) * eta).sum()

    return loss


def squared_hinge(z):
    return torch.relu(1 - z) ** 2


def modified_huber(z):
    return torch.where(z >= -1, torch.relu(1 - z) ** 2, -4 * z)


def tweedie(power):
    def loss(eta, y, classes):
        mu = eta.exp()[:, 0]
        return (mu ** (2 - power) / (2 - power) - torch.from_numpy(y) * mu ** (1 - power) / (1 - power)).sum()

    return loss


def gamma(eta, y, classes):
    return (eta[:, 0] + torch.from_numpy(y) / eta[:, 0].exp()).sum()


def half_squared(eta, y, classes):
    return ((eta[:, 0] - torch.from_numpy(y)) ** 2).sum() / 2


def svc(**settings):
    return type("SVC", (PerSampleGradients, LinearSVC), {})(random_state=0, **settings)


def sgd(loss, **settings):
    return with_gradients("SGDClassifier", loss=loss, random_state=0, **settings)


POSITIVE = np.exp(Y / 3)
SCORES = {
    "Gamma": (with_gradients("GammaRegressor"), POSITIVE, gamma),
    "Tweedie 1.5": (with_gradients("TweedieRegressor", power=1.5), POSITIVE, tweedie(1.5)),
    "Tweedie 3, no intercept": (with_gradients("TweedieRegressor", power=3, fit_intercept=False), POSITIVE, tweedie(3)),
    "normal": (with_gradients("TweedieRegressor"), Y, half_squared),
    "LinearSVC": (svc(C=C), TWO, margins(squared_hinge)),
    "LinearSVC of three": (svc(C=C), THREE, margins(squared_hinge)),
    "squared hinge": (sgd("squared_hinge", eta0=1e-4, learning_rate="constant"), TWO, margins(squared_hinge)),
    "modified Huber": (sgd("modified_huber"), THREE, margins(modified_huber)),
    "one against the rest": (sgd("log_loss"), THREE, margins(lambda z: torch.nn.functional.softplus(-z))),
}  # fmt: skip


@pytest.mark.parametrize("name", SCORES)
def test_rows_of_losses_of_scores_are_those_of_autograd(name):
    estimator, y, loss = SCORES[name]
    estimator = clone(estimator).fit(X, y, sample_weight=WEIGHTS)
    theta = np.atleast_2d(estimator.coef_).T
    first = int(estimator.fit_intercept)
    theta = torch.from_numpy(np.vstack([np.reshape(estimator.intercept_, (1, -1)), theta]) if first else theta)
    for i, row in enumerate(estimator.per_sample_gradients_):
        x = torch.from_numpy(np.r_[np.ones(first), X[i]])[None]
        free = theta.clone().requires_grad_()
        wanted = torch.autograd.grad(loss(x @ free, y[i : i + 1], getattr(estimator, "classes_", None)), free)[0]
        np.testing.assert_allclose(row.reshape(wanted.shape), WEIGHTS[i] * wanted.numpy(), rtol=1e-10, atol=1e-12)


def test_weights_of_several_classes_are_refused_where_each_has_its_own_loss():
    with pytest.raises(ValueError, match="known with two classes"):
        sgd("squared_hinge", class_weight="balanced").fit(X, THREE)


def test_with_the_penalty_they_sum_to_zero():
    """Ridge minimizes the sum of squared errors + alpha |w|^2, LogisticRegression C times the sum + |w|^2 / 2."""
    ridge = with_gradients("Ridge", alpha=ALPHA).fit(X, Y)
    np.testing.assert_allclose(ridge.per_sample_gradients_.sum(0)[1:], -2 * ALPHA * ridge.coef_, rtol=1e-10)
    model = with_gradients("LogisticRegression", C=C, tol=1e-10).fit(X, TWO)
    np.testing.assert_allclose(C * model.per_sample_gradients_.sum(0)[1:], -model.coef_[0], rtol=1e-5)


def test_several_classes_are_the_last_axis():
    model = with_gradients("LogisticRegression", C=C, tol=1e-10).fit(X, THREE)
    assert model.per_sample_gradients_.shape == (N, 4, 3)
    shares = model.predict_proba(X) - (THREE[:, None] == model.classes_)
    wanted = np.c_[np.ones(N), X][:, :, None] * shares[:, None, :]
    np.testing.assert_allclose(model.per_sample_gradients_, wanted, rtol=1e-10, atol=1e-12)


def test_class_weights_count_as_weights_of_samples():
    plain = with_gradients("LogisticRegression").fit(X, TWO)
    balanced = clone(plain).set_params(class_weight={"yes": 3.0, "no": 1.0})
    weights = np.where(TWO == "yes", 3.0, 1.0)
    wanted = clone(plain).fit(X, TWO, sample_weight=weights)
    np.testing.assert_allclose(balanced.fit(X, TWO).per_sample_gradients_, wanted.per_sample_gradients_, rtol=1e-10)


def test_other_samples_pipelines_and_sparse_features():
    sparse = pytest.importorskip("scipy.sparse")
    model = with_gradients("Ridge").fit(sparse.csr_matrix(X), Y)
    np.testing.assert_array_equal(model.per_sample_gradients(X[:5], Y[:5]), model.per_sample_gradients_[:5])
    piped = make_pipeline(StandardScaler(), with_gradients("Ridge")).fit(X, Y)
    assert piped[-1].per_sample_gradients_.shape == (N, 4)


@pytest.mark.parametrize(
    ("estimator", "y", "says"),
    [
        (with_gradients("QuantileRegressor"), Y, "QuantileRegressor has no loss .* known are ARDRegression, "),
        (with_gradients("SGDClassifier"), TWO, "not 'hinge'"),
        (svc(loss="hinge", max_iter=10**5), TWO, "'squared_hinge', not 'hinge'"),
        (with_gradients("Ridge"), np.c_[Y, Y], "fitted to 2 targets"),
    ],
)
def test_another_loss_is_refused(estimator, y, says):
    with pytest.raises(ValueError, match=says):
        estimator.fit(X, y)


def test_classes_that_were_not_there_are_refused():
    model = with_gradients("LogisticRegression").fit(X, TWO)
    with pytest.raises(ValueError, match="known are no, yes"):
        model.per_sample_gradients(X[:1], ["maybe"])


def test_balanced_classes_are_those_of_the_fit_also_for_other_samples():
    model = with_gradients("LogisticRegression", class_weight="balanced").fit(X, TWO)
    some = np.flatnonzero(TWO == "yes")[:5]
    np.testing.assert_array_equal(model.per_sample_gradients(X[some], TWO[some]), model.per_sample_gradients_[some])


@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_balanced_classes_are_counted_by_the_weights_of_samples_as_the_estimator_counts_them(y):
    settings = {"class_weight": "balanced", "C": 1e9, "tol": 1e-10, "max_iter": 10**4}
    model = with_gradients("LogisticRegression", **settings).fit(X, y, sample_weight=WEIGHTS)
    np.testing.assert_allclose(model.per_sample_gradients_.sum(0), 0, atol=1e-4)
    margins = svc(class_weight="balanced", C=0.1, tol=1e-10, max_iter=10**5).fit(X, TWO, sample_weight=WEIGHTS)
    np.testing.assert_allclose(0.1 * margins.per_sample_gradients_.sum(0)[1:], -margins.coef_[0], atol=1e-6)


def test_sgd_balances_by_the_number_of_samples_as_it_does_itself():
    settings = {"loss": "log_loss", "random_state": 0}
    own = linear_model.SGDClassifier(class_weight="balanced", **settings).fit(X, TWO, sample_weight=WEIGHTS)
    ours = with_gradients("SGDClassifier", class_weight="balanced", **settings).fit(X, TWO, sample_weight=WEIGHTS)
    counts = {label: N / (2 * (label == TWO).sum()) for label in ("no", "yes")}
    factors = np.array([counts[label] for label in TWO]) * WEIGHTS
    known = with_gradients("SGDClassifier", **settings).fit(X, TWO, sample_weight=factors)
    np.testing.assert_allclose(own.coef_, known.coef_)
    np.testing.assert_allclose(ours.per_sample_gradients_, known.per_sample_gradients_)


def test_columns_in_another_order_are_refused():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = with_gradients("LinearRegression").fit(table, Y)
    with pytest.raises(ValueError, match="columns c, b, a, and the estimator was fitted to a, b, c"):
        model.per_sample_gradients(table[["c", "b", "a"]], Y)


def test_arguments_by_position_are_those_of_the_estimators_own_fit():
    weighted = with_gradients("Ridge").fit(X, Y, WEIGHTS)
    np.testing.assert_array_equal(weighted.coef_, linear_model.Ridge().fit(X, Y, WEIGHTS).coef_)
    wanted = clone(weighted).fit(X, Y, sample_weight=WEIGHTS)
    np.testing.assert_array_equal(weighted.per_sample_gradients_, wanted.per_sample_gradients_)
    settings = {"max_iter": 1, "tol": None, "shuffle": False}
    begun = with_gradients("SGDRegressor", **settings).fit(X, Y, np.array([5.0, -5.0, 5.0]), [9.0], WEIGHTS)
    own = linear_model.SGDRegressor(**settings).fit(X, Y, np.array([5.0, -5.0, 5.0]), [9.0], WEIGHTS)
    np.testing.assert_array_equal(begun.coef_, own.coef_)
    residuals = begun.predict(X) - Y
    np.testing.assert_allclose(begun.per_sample_gradients_[:, 0], WEIGHTS * residuals, rtol=1e-10)
    with pytest.raises(TypeError, match="multiple values for argument 'sample_weight'"):
        with_gradients("Ridge").fit(X, Y, WEIGHTS, sample_weight=WEIGHTS)


def test_rows_of_a_fit_are_gone_after_a_partial_fit():
    model = with_gradients("SGDRegressor").fit(X, Y)
    assert model.per_sample_gradients_.shape == (N, 4)
    model.partial_fit(X, Y)
    assert not hasattr(model, "per_sample_gradients_")
    assert not hasattr(with_gradients("Ridge"), "partial_fit")


def test_one_weight_for_all_and_targets_in_a_column_are_taken_as_scikit_learn_takes_them():
    for model, y in [(with_gradients("Ridge"), Y), (svc(), TWO)]:
        twice = model.fit(X, y, sample_weight=2.0).per_sample_gradients_
        np.testing.assert_array_equal(twice, 2 * model.per_sample_gradients(X, y))
        np.testing.assert_array_equal(model.per_sample_gradients(X, y[:, None]), model.per_sample_gradients(X, y))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: svc(multi_class="crammer_singer").fit(X, THREE), "not 'crammer_singer'"),
        (lambda: svc().fit(X, TWO).per_sample_gradients(X, TWO[1:]), "X has 60 samples and y has 59"),
        (lambda: svc().fit(X, TWO).per_sample_gradients(X, TWO, [2.0]), r"sample_weight is \(1,\)"),
        (lambda: with_gradients("Ridge").per_sample_gradients(X, Y), "is not fitted yet"),
    ],
)
def test_what_fits_no_fit_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
