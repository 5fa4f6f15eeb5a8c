"""Robust standard errors through the door and by statsmodels and linearmodels themselves, of fitted models.

python bench/doors/statsmodels_door.py [--observations 100000]
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import numpy as np
import statsmodels.api as sm
import torch
from door_rows import compared, write
from linearmodels.iv import IV2SLS
from linearmodels.iv.covariance import ClusteredCovariance, HeteroskedasticCovariance
from statsmodels.stats.sandwich_covariance import cov_cluster, cov_white_simple

from gradkernels.adapters import linearmodels as ours_linearmodels
from gradkernels.adapters.statsmodels import robust

FEATURES, CLUSTERS = 10, 1000


def data(n):
    """Draw a design, counts, labels and groups."""
    rng = np.random.default_rng(0)
    design = np.c_[np.ones(n), rng.standard_normal((n, FEATURES - 1))]
    eta = design @ np.linspace(-0.2, 0.2, FEATURES)
    targets = {
        "OLS": eta + rng.standard_normal(n) * (1 + abs(design[:, 1])),
        "Logit": (rng.logistic(size=n) < eta) * 1.0,
        "Poisson": rng.poisson(np.exp(eta)) * 1.0,
    }
    return design, targets, rng.integers(0, CLUSTERS, n)


def errors(covariance):
    """Return standard errors of a covariance."""
    return np.sqrt(np.diag(covariance))


def of_statsmodels(n):
    """Yield a row for each model and kind of covariance."""
    design, targets, groups = data(n)
    for name, target in targets.items():
        fit = getattr(sm, name)(target, design).fit(**({} if name == "OLS" else {"disp": False}))
        pairs = {
            "HC0": (lambda fit=fit: robust(fit).bse, lambda fit=fit: errors(cov_white_simple(fit, False))),
            "clusters": (
                lambda fit=fit: robust(fit, groups).bse,
                lambda fit=fit: errors(cov_cluster(fit, groups)),
            ),
        }
        pairs["clusters, kernel='numba.fused'"] = (
            lambda fit=fit: robust(fit, groups, kernel="numba.fused").bse,
            pairs["clusters"][1],
        )
        for kind, (ours, own) in pairs.items():
            off = float(abs(ours() / own() - 1).max())
            library = f"statsmodels {version('statsmodels')}"
            yield compared(("statsmodels", library, f"{name}, {kind}", n), ours, own, off)


def of_linearmodels(n):
    """Yield a row for each kind of covariance of least squares."""
    design, targets, groups = data(n)
    fit = IV2SLS(targets["OLS"], design, None, None).fit(cov_type="unadjusted")
    given = design, targets["OLS"][:, None], design, np.asarray(fit.params)[:, None]
    pairs = {
        "robust": (
            lambda: ours_linearmodels.robust(fit).bse.to_numpy(),
            lambda: errors(HeteroskedasticCovariance(*given).cov),
        ),
        "clustered": (
            lambda: ours_linearmodels.robust(fit, groups).bse.to_numpy(),
            lambda: errors(ClusteredCovariance(*given, clusters=groups[:, None]).cov),
        ),
    }
    for kind, (ours, own) in pairs.items():
        off = float(abs(ours() / own() - 1).max())
        library = f"linearmodels {version('linearmodels')}"
        yield compared(("linearmodels", library, f"least squares, {kind}", n), ours, own, off)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=100_000)
    torch.set_num_threads(1)
    asked = parser.parse_args().observations
    write([*of_statsmodels(asked), *of_linearmodels(asked)])
