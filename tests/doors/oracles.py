"""What statsmodels and scikit-learn say a gradient is: oracles that share no code with this project."""

import numpy as np
from sklearn._loss import loss as losses
from sklearn.linear_model._linear_loss import LinearModelLoss
from statsmodels.discrete.discrete_model import MNLogit
from statsmodels.genmod import families
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.robust.norms import HuberT

# statsmodels takes rates below 2.2e-16 for 2.2e-16, and sums powers of e, which overflow before the result does.
UNDERFLOW, OVERFLOW = 36, 300
GLMS = {"linear": (families.Gaussian, 2), "logistic": (families.Binomial, 1), "poisson": (families.Poisson, 1)}


def design(problem, x):
    columns = x.reshape(len(x), -1)
    return np.hstack([np.ones((len(x), 1)), columns]) if problem.fit_intercept else columns


def penalty(problem, theta):
    row = problem.l2 * theta
    if problem.fit_intercept:
        row[0] = 0
    return row


def rows(problem, theta, x, target, weight):
    """Per-sample gradients by statsmodels: minus the score of each observation, weighted, plus the penalty."""
    columns = design(problem, x)
    weight = np.ones(len(x)) if weight is None else weight
    if problem.family == "poisson" and np.abs(columns @ theta).max() > UNDERFLOW:
        result = (weight * pointwise(losses.HalfPoissonLoss(), columns @ theta, target))[:, None] * columns
    elif problem.family in GLMS:
        family, factor = GLMS[problem.family]
        scores = GLM(target, columns, family(), var_weights=weight, hasconst=False).score_obs(theta, scale=1.0)
        result = -factor * scores
    elif problem.family == "huber":
        result = (weight * HuberT(t=problem.delta).psi(columns @ theta - target))[:, None] * columns
    else:
        result = multinomial(problem, theta, columns, target) * weight[:, None, None]
    return result + penalty(problem, theta)


def multinomial(problem, theta, columns, target):
    """Its model has no parameters for class 0; softmax is the same with that class' parameters taken off all."""
    free = theta[:, 1:] - theta[:, :1]
    if set(target) == set(range(problem.classes)) and np.abs(columns @ theta).max() < OVERFLOW:
        scores = MNLogit(target, columns, hasconst=False).score_obs(free.ravel(order="F"))
        others = -scores.reshape(len(columns), problem.classes - 1, -1).transpose(0, 2, 1)
        return np.concatenate([-others.sum(2, keepdims=True), others], 2)
    # It takes the classes from the data, and one may be missing there.
    slopes = pointwise(losses.HalfMultinomialLoss(n_classes=problem.classes), columns @ theta, target)
    return columns[:, :, None] * slopes[:, None, :]


def pointwise(loss, eta, target):
    """scikit-learn's slope of each sample's own loss, where statsmodels has none."""
    return loss.gradient(y_true=target.astype(float), raw_prediction=np.ascontiguousarray(eta))


def total(problem, theta, x, target, weight):
    """Gradient of the mean loss by scikit-learn, whose mean divides by the sum of the weights."""
    loss = {
        "linear": losses.HalfSquaredError,
        "logistic": losses.HalfBinomialLoss,
        "poisson": losses.HalfPoissonLoss,
        "huber": lambda: losses.HuberLoss(delta=problem.delta),
        "softmax": lambda: losses.HalfMultinomialLoss(n_classes=problem.classes),
    }[problem.family]()
    first = int(problem.fit_intercept)
    model = LinearModelLoss(base_loss=loss, fit_intercept=problem.fit_intercept)
    target = np.ascontiguousarray(target, float)
    features = np.ascontiguousarray(x.reshape(len(x), -1))
    mean = model.gradient(np.roll(theta, -first, 0).T.copy(), features, target, sample_weight=weight)
    share = 1 if weight is None else weight.sum() / len(x)
    factor = 2 if problem.family == "linear" else 1
    return factor * share * np.roll(mean.T, first, 0) + penalty(problem, theta)
