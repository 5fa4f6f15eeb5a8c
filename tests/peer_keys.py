"""Kernels that other libraries compute."""

KEYS = (
    "opacus.hooks.per_sample",
    "opacus.functorch.per_sample",
    "opacus.ew.per_sample",
    "opacus.ghost.norms",
    "opacus.ghost.clipped_sum",
    "backpack.batch.per_sample",
    "backpack.l2.norms",
    "backpack.variance.moments",
)
OPACUS = tuple(key for key in KEYS if key.startswith("opacus"))
BACKPACK = tuple(key for key in KEYS if key.startswith("backpack"))
