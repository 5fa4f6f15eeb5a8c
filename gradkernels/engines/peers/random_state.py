"""Random numbers: libraries draw them where the model does, and with randomness="error" nothing may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import DRAWS_RANDOM, Unfit


@contextmanager
def requiring_no_draws(device: Any) -> Iterator[None]:
    """Raise an Unfit at the end of the context if it has drawn; then numbers begin where they did before."""
    import torch

    before = _states(device)
    yield
    if all(map(torch.equal, before, _states(device))):
        return
    torch.random.set_rng_state(before[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(before[1], device)
    raise Unfit(DRAWS_RANDOM)


def _states(device: Any) -> list[Array]:
    """Return the states of the generators that a model on the device draws from."""
    import torch

    states = [torch.random.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states
