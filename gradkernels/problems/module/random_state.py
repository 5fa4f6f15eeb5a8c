"""Torch's random numbers on the CPU and on the device of a model: seeded, kept as they were, and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.problems.module.structure import Parameters


@contextmanager
def seeded(own: Parameters, seed: int) -> Iterator[None]:
    """Start random numbers, on the parameters' device too, with the seed; torch's own go on afterwards."""
    import torch

    with preserved_rng(own):
        torch.manual_seed(seed)
        yield


@contextmanager
def preserved_rng(own: Parameters) -> Iterator[None]:
    """Have torch's random numbers, on the parameters' device too, go on afterwards as if none had been drawn."""
    import torch

    device = next(iter(own.values())).device
    with torch.random.fork_rng(rng_devices(device)):
        yield


def rng_state(device: Any) -> bytes:
    """Return the state of torch's random numbers as bytes."""
    import torch

    state = torch.random.get_rng_state().numpy().tobytes()
    return state + torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else state


def rng_devices(device: Any) -> list[Any]:
    """Return the device where it has random numbers of its own."""
    return [device] if device.type == "cuda" else []


def generator_states() -> list[Any]:
    """Return the states of torch's random numbers: of the CPU, then of each GPU where there are any."""
    import torch

    of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.random.get_rng_state(), *of_gpus]


def set_generator_states(states: list[Any]) -> None:
    """Have torch's random numbers go on from states that `generator_states` gave."""
    import torch

    torch.random.set_rng_state(states[0])
    for device, state in enumerate(states[1:]):
        torch.cuda.set_rng_state(state, device)
