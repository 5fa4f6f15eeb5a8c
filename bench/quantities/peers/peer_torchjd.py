"""TorchJD: the Gramian of the losses' Jacobian by its autogram engine (Quinton & Rey 2025)."""

from __future__ import annotations

from quantity_ways import peer


@peer("torchjd autogram", "torchjd", "gram")
def autogram(setting):
    """Build `Engine(model, batch_dim=0).compute_gramian(losses)`."""
    from torchjd.autogram import Engine

    problem = setting.copied()
    engine = Engine(problem.model, batch_dim=0)

    def compute():
        return engine.compute_gramian(problem.losses(problem.output(setting.x), setting.y))

    return compute
