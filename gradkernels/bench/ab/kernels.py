"""Which kernels two revisions have, and which of them a person asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from gradkernels.bench.ab.client import Side, worker_on
from gradkernels.bench.ab.interleaved import Sides
from gradkernels.names import unknown


def choose(sides: Sides, quantities: Sequence[str], patterns: Sequence[str]) -> dict[str, tuple[bool, bool]]:
    """Keys of the kernels to compare, each with whether the first and the second side have it.

    Without patterns: those that the repository itself declares, except Python loops, which nobody waits for.

    Args:
        sides: Before and after.
        quantities: Names.
        patterns: Globs of ways or keys, or with settings: `torch.vmap[chunk=512]`.

    Raises:
        ValueError: A side cannot be loaded, a pattern matches nothing on either, or there is nothing to compare.
    """
    catalogues = [_catalogue(side, quantities) for side in sides]
    chosen = [_chosen(one, patterns) for one in catalogues]
    for pattern in patterns:
        if not any(_chosen(one, [pattern]) for one in catalogues):
            raise ValueError(unknown("kernel", pattern, sorted({one["way"] for side in catalogues for one in side})))
    keys = dict.fromkeys([*chosen[0], *chosen[1]])
    if not keys:
        raise ValueError(f"neither side declares a kernel for {', '.join(quantities)}; name kernels with --kernel")
    return {key: (key in chosen[0], key in chosen[1]) for key in keys}


def _catalogue(side: Side, quantities: Sequence[str]) -> list[dict[str, Any]]:
    with worker_on(side) as one:
        one.send("catalogue", root=str(side.root), quantities=list(quantities))
        return list(one.loaded()["kernels"])


def _chosen(catalogue: Sequence[Mapping[str, Any]], patterns: Sequence[str]) -> list[str]:
    if not patterns:
        return [f"{one['way']}.{one['quantity']}" for one in catalogue if one["own"] and not one["loops"]]
    return [
        f"{one['way']}{settings}.{one['quantity']}"
        for plain, settings in map(_parted, patterns)
        for one in catalogue
        if _matches(plain, one)
    ]


def _parted(pattern: str) -> tuple[str, str]:
    """`torch.vmap` and `[chunk=512]` of `torch.vmap[chunk=512]`; a bracket without = is a glob's own."""
    plain, bracket, rest = pattern.partition("[")
    settings, closing, quantity = rest.partition("]")
    if bracket and closing and "=" in settings:
        return plain + quantity, f"[{settings}]"
    return pattern, ""


def _matches(pattern: str, one: Mapping[str, Any]) -> bool:
    ways = one["way"], one["way"].removesuffix("+")
    return any(fnmatchcase(name, pattern) for way in ways for name in (way, f"{way}.{one['quantity']}"))
