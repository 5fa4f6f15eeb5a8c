"""What each call must give, from the gradients of a tile of samples and their places in the batch, in float64.

Each definition is `of(truth, scale, at, options)`: a `ModuleTruth`, the scale of the rounding of each of its rows, the
row of each sample of the batch `(n,)`, and the options of the call; it returns the parts of the result.
"""

from __future__ import annotations

import numpy as np
from quantity_asks import GAMMA
from quantity_parts import Part, folded


def _sums(truth, scale, at, weights):
    weights = weights.reshape(len(at), -1)
    summed, sizes = (folded(one, at, len(truth.rows)) for one in (weights, np.abs(weights)))
    return [Part(name, (summed.T @ truth.rows)[:, columns], (sizes.T @ scale)[:, None])
            for name, columns in truth.places.items()]  # fmt: skip


def _weighted_sum(truth, scale, at, options):
    return _sums(truth, scale, at, np.float64(options["weights"]))


def _group_sums(truth, scale, at, options):
    return _sums(truth, scale, at, np.float64(options["groups"][:, None] == np.arange(options["count"])))


def _norms(truth, scale, at, options):
    return [Part(name, one[:, None], scale[:, None], at) for name, one in truth.lengths.items()]


def _inner(truth, scale, at, options):
    v = np.concatenate([np.float64(options["v"][name]).reshape(-1, len(columns)) for name, columns in
                        truth.places.items()], 1)  # fmt: skip
    return [Part("", truth.rows @ v.T, np.outer(scale, np.linalg.norm(v, axis=1)), at)]


def _gram(truth, scale, at, options):
    second = at[: len(options["other"][1])] if "other" in options else at
    value = (truth.rows @ truth.rows.T)[:, second]
    return [Part("", value, np.outer(scale, scale)[:, second], at)]


def _project(truth, scale, at, options):
    value, lengths = truth.projected(options["kind"], options["size"], options["seed"])
    return [Part("", value, np.outer(scale, lengths), at)]


def _per_sample(truth, scale, at, options):
    return [Part("", truth.rows, scale[:, None], at)]


def _clipped(truth, scale, at, weights):
    """Parts of a sum in which each sample has a weight for each parameter, `(t,)` by name."""
    times = np.bincount(at, minlength=len(truth.rows))
    found = []
    for name, columns in truth.places.items():
        factor = times * weights[name]
        # A factor has its norm's relative error too, hence the 2.
        found.append(Part(name, (factor @ truth.rows[:, columns])[None], 2 * factor @ scale))
    return found


def _factors(lengths, max_norm):
    return np.minimum(1.0, max_norm / np.maximum(lengths, 1e-300))


def _clipped_by_parameter(truth, scale, at, options):
    return _clipped(truth, scale, at, {name: _factors(one, options["max_norm"]) for name, one in truth.lengths.items()})


def _automatic(truth, scale, at, options):
    weights = options["max_norm"] / (np.linalg.norm(truth.rows, axis=1) + GAMMA)
    return _clipped(truth, scale, at, dict.fromkeys(truth.places, weights))


def _with_norms(truth, scale, at, options):
    norms = np.linalg.norm(truth.rows, axis=1)
    sums = _clipped(truth, scale, at, dict.fromkeys(truth.places, _factors(norms, options["max_norm"])))
    return [*sums, Part("", norms[:, None], scale[:, None], at)]


DEFINITIONS = {
    "norms by=parameter": _norms, "inner K=1": _inner, "inner K=8": _inner, "gram": _gram, "gram other": _gram,
    "project factored": _project, "project gaussian": _project, "clipped_sum by=parameter": _clipped_by_parameter,
    "clipped_sum rule=automatic": _automatic, "clipped_sum norms_out": _with_norms, "weighted_sum K=1": _weighted_sum,
    "weighted_sum K=8": _weighted_sum, "group_sums count=8": _group_sums, "per_sample flat": _per_sample,
}  # fmt: skip
"""By label of what is asked."""
