"""Every quantity of a model by one way against an oracle: single samples through plain torch, in double precision."""

import torch
from matrices import in_turn
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.quantity import QUANTITIES

FIRST = ("per_sample", "norms", "clipped_sum", "moments", "gradient")
KINDS = ("gaussian", "factored")
CROSS_ENTROPY = nn.CrossEntropyLoss()


def wanted(rows, limit):
    """Every quantity from per-sample gradients by name; variances for the moments."""
    norms = torch.cat([one.reshape(len(one), -1) for one in rows.values()], 1).norm(dim=1)
    factors = (limit / norms).clamp(max=1)
    return {
        "per_sample": rows,
        "norms": norms,
        "clipped_sum": {name: torch.tensordot(factors, one, 1) for name, one in rows.items()},
        "moments": {name: one.var(0, correction=0) for name, one in rows.items()},
        "gradient": {name: one.mean(0) for name, one in rows.items()},
    }


def require_equal(way, model, x, y, loss=CROSS_ENTROPY, rows=None, **settings):
    """Compute quantities by `torch.hooks` or `torch.recorded`; fail unless they are what single samples give.

    Args:
        way: `hooks` or `recorded`.
        model: In double precision.
        x: Inputs.
        y: Targets.
        loss: Of a batch.
        rows: Per-sample gradients by name, where `oracle` cannot give them.
        settings: Of the problem.
    """
    problem = gk.ModuleProblem(model, loss, **settings)
    rows = oracle(model, loss, x, y) if rows is None else rows
    norms = torch.cat([one.reshape(len(one), -1) for one in rows.values()], 1).norm(dim=1)
    assert norms.min() > 1e-6  # no sample is without a gradient
    limit = float(norms.median())
    given = problem.parameters(), *problem.prepared(x, y)
    for quantity, options, want in in_turn_of(way, rows, limit):
        found = gk.kernel(f"torch.{way}.{quantity}").build(problem)(*given, **options)
        found = found.variance if quantity == "moments" else found
        close = 1e-12 if quantity in FIRST else 1e-10
        torch.testing.assert_close(found, want, rtol=1e-8, atol=close, msg=lambda says, of=quantity: f"{of}: {says}")


def in_turn_of(way, rows, limit):
    """Choose rows and norms, and a third of the other quantities; which those are follows from the test's name."""
    options = {"clipped_sum": {"max_norm": limit}}
    five = [(one, options.get(one, {}), want) for one, want in wanted(rows, limit).items()]
    more = products(rows) if way == "hooks" else []  # those of recordings: test_recorded_products.py
    return five[:2] + in_turn(five[2:] + more, 3)


def products(rows):
    """Weighted sums and inner products by name, their options, and what they are of per-sample gradients."""
    torch.manual_seed(0)
    flat = torch.cat([one.reshape(len(one), -1) for one in rows.values()], 1)
    weights = torch.randn(len(flat), 2, dtype=flat.dtype)
    sums = {name: torch.einsum("nk,n...->k...", weights, one) for name, one in rows.items()}
    v = {name: torch.randn(2, *one.shape[1:], dtype=one.dtype) for name, one in rows.items()}
    along = flat @ torch.cat([one.reshape(2, -1) for one in v.values()], 1).T
    numbers = torch.arange(len(flat)) % 3
    by_group = {k: one.new_zeros(4, *one.shape[1:]).index_add_(0, numbers, one) for k, one in rows.items()}
    names = [*rows]
    groups = (("first", (names[0],)), *([("others", tuple(names[1:]))] if names[1:] else []))
    return [
        ("weighted_sum", {"weights": weights}, sums),
        ("weighted_sum", {"weights": weights[:, 0]}, {name: one[0] for name, one in sums.items()}),
        ("inner", {"v": v}, along),
        ("inner", {"v": {name: one[1] for name, one in v.items()}}, along[:, 1]),
        ("group_sums", {"groups": numbers.numpy(), "count": 4}, by_group),
        ("gram", {}, flat @ flat.T),
        ("gram_by", {"by": groups}, {group: _gram([rows[name] for name in names]) for group, names in groups}),
        *(("project", {"size": 6, "kind": kind}, QUANTITIES["project"].of(torch, rows, 6, 0, kind)) for kind in KINDS),
        ("norms_by", {"by": groups}, {group: _norm([rows[name] for name in names]) for group, names in groups}),
        *(("clipped_sum_by", cut, QUANTITIES["clipped_sum_by"].of(torch, rows, **cut)) for cut in cuts(names)),
    ]


def cuts(names):
    """By each parameter, and by groups that have parameters of the same layer, by two rules."""
    yield {"by": tuple((name, (name,)) for name in names), "max_norm": 0.1}
    halves = tuple(one for one in (("even", tuple(names[::2])), ("odd", tuple(names[1::2]))) if one[1])
    lengths = {"even": 0.1, "odd": 0.2}
    limits = {group: lengths[group] for group, _ in halves}
    yield {"by": halves, "max_norm": limits, "rule": "automatic", "gamma": 0.1}


def _gram(parts):
    flat = torch.cat([one.reshape(len(one), -1) for one in parts], 1)
    return flat @ flat.T


def _norm(parts):
    return torch.cat([one.reshape(len(one), -1) for one in parts], 1).norm(dim=1)
