"""Every quantity of a model by one way against an oracle: single samples through plain torch, in double precision."""

import torch
from models import oracle
from torch import nn

import gradkernels as gk

CROSS_ENTROPY = nn.CrossEntropyLoss()
QUANTITIES = ("per_sample", "norms", "clipped_sum", "moments", "gradient")


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
    """Compute all five by `torch.hooks` or `torch.recorded`; fail unless they are what single samples give.

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
    for quantity, want in wanted(rows, limit).items():
        options = {"max_norm": limit} if quantity == "clipped_sum" else {}
        found = gk.kernel(f"torch.{way}.{quantity}").build(problem)(*given, **options)
        found = found.variance if quantity == "moments" else found
        torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-12, msg=lambda says, of=quantity: f"{of}: {says}")
