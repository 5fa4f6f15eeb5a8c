"""What the processes of torch.distributed's default group exchange: sums, small rows and inputs, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.tree import Tree, leaves


@dataclass(frozen=True)
class Ranks:
    """The processes that go through samples together.

    Attributes:
        rank: Number of this one.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def agree(self, asked: dict[str, str]) -> None:
        """Raise a ValueError unless all ranks asked the same.

        Args:
            asked: What was asked, by name: fingerprints.
        """
        if self.size == 1:
            return
        for rank, other in enumerate(self.objects(asked, "compare what was asked")):
            names = sorted(asked.keys() | other.keys())
            if different := [name for name in names if asked.get(name) != other.get(name)]:
                raise ValueError(f"rank {self.rank} and rank {rank} of {self.size} asked for different things: "
                                 f"{' and '.join(different)}; ask the same on each, with the same parameters, of other "
                                 "samples")  # fmt: skip

    def summed(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the sums over all ranks of float64 arrays that have the same shapes on each, by one exchange."""
        if self.size == 1:
            return list(arrays)
        import torch

        device = _device(arrays[0])
        flat = torch.cat([torch.as_tensor(one, device=device).reshape(-1) for one in arrays])
        with self.told("add sums up"):
            torch.distributed.all_reduce(flat)
        found, start = [], 0
        for one in arrays:
            found.append(_as(flat[start : (start := start + prod(one.shape))].reshape(tuple(one.shape)), one))
        return found

    def gathered(self, rows: Array) -> Array:
        """Return the rows of all ranks behind each other, in the order of the ranks, of which each may have its number.

        Args:
            rows: Of this rank, `(n, ...)`; `n` alone may be another one elsewhere.
        """
        if self.size == 1:
            return rows
        import torch

        own = torch.as_tensor(rows, device=_device(rows))
        with self.told("gather rows"):
            sizes = own.new_zeros(self.size, dtype=torch.int64)
            sizes[self.rank] = len(own)
            torch.distributed.all_reduce(sizes)
            padded = own.new_zeros((int(sizes.max()), *own.shape[1:]))
            padded[: len(own)] = own
            every = [torch.empty_like(padded) for _ in range(self.size)]
            torch.distributed.all_gather(every, padded)
        return _as(torch.cat([one[:n] for one, n in zip(every, sizes.tolist(), strict=True)]), rows)

    def objects(self, value: Any, what: str = "exchange inputs") -> list[Any]:
        """Return what each rank has, in the order of the ranks.

        Args:
            value: Of this rank, which can be pickled.
            what: The ranks do with it, as a message says it.
        """
        if self.size == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.size
        with self.told(what):
            torch.distributed.all_gather_object(found, value)
        return found

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Have what ends an exchange say what to look for."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"rank {self.rank} of {self.size} could not {what} with the others: one of them ended, failed or takes "
                f"longer than the group's timeout; see what it said ({reason})"
            ) from error


def ranks_here(together: bool = True) -> Ranks:
    """Return the ranks of torch.distributed's default group, or the only one there is, or is to be."""
    group = sys.modules.get("torch.distributed")
    if not together or group is None or not group.is_available() or not group.is_initialized():
        return Ranks()
    return Ranks(group.get_rank(), group.get_world_size())


def file_of_rank(out: Any, ranks: Ranks) -> str:
    """Return the name of a rank's own file: `{rank}` in it is the rank's number.

    Args:
        out: As the caller gave it.
        ranks: That go through samples together.
    """
    name = str(out)
    if ranks.size > 1 and "{rank}" not in name:
        raise ValueError(f"out is {name!r} on each of {ranks.size} ranks; give each a file: 'rows-{{rank}}.npy'")
    return name.replace("{rank}", str(ranks.rank))


def require_on_host(trees: Sequence[Tree]) -> None:
    """Raise a TypeError where there is anything but arrays on the CPU, which alone ranks exchange as inputs."""
    for one in leaves(tuple(trees)):
        library = backend_of(one)
        if library is None or library.arrays.device_of(one) != "cpu":
            raise TypeError(f"inputs are on {getattr(one, 'device', 'no device')}; ranks exchange those on the CPU "
                            "alone: pass other=(x, y)")  # fmt: skip


def _device(array: Array) -> Any:
    """Return where the group's backend takes arrays."""
    if "nccl" in sys.modules["torch.distributed"].get_backend():
        return array.device if hasattr(array, "new_empty") else "cuda"
    return "cpu"


def _as(tensor: Any, like: Array) -> Array:
    library = backend_of(like)
    assert library is not None
    if library.name == "torch":
        return tensor.to(like.device)
    return library.put(np.asarray(tensor.numpy(force=True)), library.arrays.device_of(like))
