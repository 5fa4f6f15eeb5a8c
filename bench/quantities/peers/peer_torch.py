"""torch itself: rows by `torch.func`, forward-mode derivatives, and backward passes of weighted losses."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import torch
from peer_rows import ALL, finisher
from quantity_ways import peer


@peer("torch.func vmap rows", "torch", *ALL)
def vmap_rows(setting):
    """Build `vmap(grad(loss))`, and what is asked from its rows."""
    theta = {name: part.detach() for name, part in setting.problem.parameters().items()}
    return finisher(setting, partial(torch.func.vmap(torch.func.grad(setting.problem.loss), (None, 0, 0)), theta))


@contextmanager
def attention_in_steps():
    """Have attention computed by operations that have a forward mode: the fused ones have none."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@peer("torch.func jvp", "torch", "inner K=1", "inner K=8")
def jvp(setting):
    """Build the derivative of all losses along a direction, or along several under vmap; attention as it is written."""
    theta = {name: part.detach() for name, part in setting.problem.parameters().items()}
    losses = partial(setting.problem.sample_losses, x=setting.x, y=setting.y)

    def along(v):
        with attention_in_steps():
            return torch.func.jvp(losses, (theta,), (v,))[1]

    one = setting.ask.options == "K=1"
    return partial(along if one else torch.func.vmap(along, out_dims=1), setting.options["v"])


@peer("torch weighted losses", "torch", "weighted_sum K=1", "weighted_sum K=8", "group_sums count=8")
def weighted_losses(setting):
    """Build a backward pass of the weighted losses, or one for each weighting under vmap."""
    theta, options = setting.problem.parameters(), setting.options
    weights = options.get("weights")
    if weights is None:
        weights = torch.nn.functional.one_hot(torch.as_tensor(options["groups"]), options["count"]).float()
    several = weights.ndim == 2
    weights = weights.mT if several else weights

    def compute():
        losses = setting.problem.sample_losses(theta, setting.x, setting.y)
        found = torch.autograd.grad(losses, list(theta.values()), weights,
                                    is_grads_batched=several, materialize_grads=True, allow_unused=True)  # fmt: skip
        return dict(zip(theta, found, strict=True))

    return compute
