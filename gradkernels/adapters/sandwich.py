"""Robust covariances of estimated parameters: bread times meat times bread, the meat from per-sample gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradkernels.dispatch.request import KernelLike
from gradkernels.fastest.sums import outer
from gradkernels.problems import Problem
from gradkernels.truth import Floats

WAYS = 2
"""Of clustering, at most."""

TOO_FEW = "{n} observations have {count} parameters; the correction divides by their difference, which must be above 0"


@dataclass(frozen=True)
class Fit:
    """An estimate that another library made, as a problem of this one.

    Attributes:
        problem: Whose summed loss the estimate minimizes.
        theta: The estimate, `(P,)`, first of the columns of x.
        x: Design `(n, P)`, or `(n, P + 1)` where the last column is an offset, whose parameter is 1.
        y: Targets `(n,)`.
        weight: Factor of each observation's loss `(n,)`; None for 1.
        bread: Inverse Hessian of the summed loss, `(P, P)`.
        names: Of the parameters, a pandas Index; None where the library gave arrays.
        rank: Of the design, where it may be less than P; None for P.
    """

    problem: Problem
    theta: Floats
    x: Floats
    y: Floats
    weight: Floats | None
    bread: Floats
    names: Any = None
    rank: int | None = None

    def meat(self, groups: Any, kernel: KernelLike) -> Floats:
        """Sum outer products of gradients, or of their sums over each group."""
        extra = np.ones(self.x.shape[1] - len(self.theta))
        arrays = np.concatenate([self.theta, extra]), self.x, self.y
        products: Floats = outer(self.problem, *arrays, groups=groups, sample_weight=self.weight, kernel=kernel)
        return products[: len(self.theta), : len(self.theta)]


@dataclass(frozen=True)
class RobustErrors:
    """What an estimate's covariance is without trust in equal variances; numpy takes it for its standard errors.

    Attributes:
        params: The estimate, `(P,)`.
        covariance: Of it, `(P, P)`.
        names: Of the parameters, a pandas Index; None for arrays.
    """

    params: Floats
    covariance: Floats
    names: Any = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        """Return the standard errors."""
        return np.asarray(self._errors, dtype)

    @cached_property
    def _errors(self) -> Floats:
        with np.errstate(invalid="ignore"):
            errors: Floats = np.sqrt(np.diag(self.covariance))
        return errors

    @property
    def bse(self) -> Any:
        """Standard errors `(P,)`, a Series where the estimate was one; NaN where two ways leave a negative variance."""
        return self._named(self._errors)

    @property
    def tvalues(self) -> Any:
        """Estimate over standard error, `(P,)`."""
        return self._named(self.params / self._errors)

    def cov_params(self) -> Any:
        """Return the covariance `(P, P)`, a DataFrame where the estimate was a Series."""
        if self.names is None:
            return self.covariance
        from pandas import DataFrame

        return DataFrame(self.covariance, index=self.names, columns=self.names)

    def _named(self, values: Floats) -> Any:
        if self.names is None:
            return values
        from pandas import Series

        return Series(values, index=self.names)


def robust_errors(fit: Fit, groups: Any, correction: bool, kernel: KernelLike) -> RobustErrors:
    """Compute White's covariance (1980, HC0), or that of clusters (Liang and Zeger 1986).

    Args:
        fit: The estimate.
        groups: Labels of each observation's group, `(n,)`; `(n, 2)` for two ways of clustering (Cameron, Gelbach and
            Miller 2011), whose covariance is that of both less that of their intersection; None for none.
        correction: Whether to correct for few observations: n / (n - rank), with groups G / (G - 1) (n - 1) / (n - P),
            as statsmodels does.
        kernel: A way to sum the outer products, as of `gk.outer`.

    Raises:
        ValueError: Groups of another number of observations, or a single one that is to be corrected for; no more
            observations than parameters, with a correction.
    """
    n, count = len(fit.x), len(fit.theta)
    if correction and n <= count:
        raise ValueError(f"{TOO_FEW.format(n=n, count=count)}; pass correction=False, or more observations")
    if groups is None:
        factor = n / (n - (count if fit.rank is None else fit.rank)) if correction else 1.0
        return _errors(fit, fit.bread @ fit.meat(None, kernel) @ fit.bread * factor)
    labels = _numbers(groups, n)
    found = _clustered(fit, labels[:, 0], correction, kernel)
    if labels.shape[1] == WAYS:
        both = _numbers(labels[:, 0] * (labels[:, 1].max() + 1) + labels[:, 1], n)[:, 0]
        found += _clustered(fit, labels[:, 1], correction, kernel) - _clustered(fit, both, correction, kernel)
    return _errors(fit, found)


def _errors(fit: Fit, covariance: Floats) -> RobustErrors:
    return RobustErrors(fit.theta, covariance, fit.names)


def _clustered(fit: Fit, groups: Any, correction: bool, kernel: KernelLike) -> Floats:
    n, count = len(fit.x), int(groups.max()) + 1
    if correction and count == 1:
        raise ValueError("groups has one group; the correction G / (G - 1) needs two, or pass correction=False")
    factor = count / (count - 1) * ((n - 1) / (n - len(fit.theta))) if correction else 1.0
    covariance: Floats = fit.bread @ fit.meat(groups, kernel) @ fit.bread * factor
    return covariance


def _numbers(groups: Any, n: int) -> Any:
    """Return the labels of each way of clustering as numbers from 0 on, `(n, 1)` or `(n, 2)`."""
    labels = np.asarray(groups)
    labels = labels[:, None] if labels.ndim == 1 else labels
    if labels.ndim != WAYS or len(labels) != n or not 1 <= labels.shape[1] <= WAYS:
        raise ValueError(f"groups is {np.shape(groups)}; it must be ({n},), or ({n}, 2) for two ways of clustering")
    from pandas import factorize  # which statsmodels and linearmodels need too, and which does not sort

    numbers = np.stack([factorize(column)[0] for column in labels.T], 1)
    if (numbers < 0).any():
        raise ValueError("groups has labels that are missing; leave these observations out of the fit")
    return numbers
