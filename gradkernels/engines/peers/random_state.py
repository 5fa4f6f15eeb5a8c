"""Random numbers: libraries draw them where the model does, and with randomness="error" nothing may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradkernels.engines.hooks.errors import DRAWS_RANDOM, Unfit
from gradkernels.problems.module.random_state import generator_states, set_generator_states


@contextmanager
def requiring_no_draws() -> Iterator[None]:
    """Raise an Unfit at the end of the context if it has drawn; then numbers begin where they did before."""
    import torch

    before = generator_states()
    yield
    if all(map(torch.equal, before, generator_states())):
        return
    set_generator_states(before)
    raise Unfit(DRAWS_RANDOM)
