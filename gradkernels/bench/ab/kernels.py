"""Choose the kernels to compare: those that two revisions have, and that a person asked for."""

from __future__ import annotations

from collections.abc import Sequence

from gradkernels.bench.ab.client import Side, worker_on
from gradkernels.bench.ab.interleaved import Sides
from gradkernels.bench.ab.messages import KernelFacts, KernelsListed, ListKernels
from gradkernels.key import Key, configured, split_patterns


def choose_kernels(sides: Sides, quantities: Sequence[str], patterns: Sequence[str]) -> dict[str, tuple[bool, bool]]:
    """Keys of the kernels to compare, each with whether the first and the second side have it.

    Without patterns: those that the repository itself declares, except Python loops, which nobody waits for.

    Args:
        sides: Before and after.
        quantities: Names.
        patterns: Globs of ways or keys, or with settings: `torch.vmap[chunk=512]`.

    Raises:
        ValueError: A side cannot be loaded, a pattern matches nothing on either, or there is nothing to compare.
    """
    present = [_keys(_catalogue(side, quantities), bool(patterns)) for side in sides]
    keys = list(dict.fromkeys([*present[0], *present[1]]))
    if patterns:
        keys = configured(split_patterns(patterns), keys)
    if not keys:
        raise ValueError(f"neither side declares a kernel for {', '.join(quantities)}; name kernels with --kernel")
    return {key: (_declared(key) in present[0], _declared(key) in present[1]) for key in keys}


def _declared(key: str) -> str:
    return str(Key.parse(key).plain)


def _keys(catalogue: Sequence[KernelFacts], every: bool) -> list[str]:
    return [f"{one.way}.{one.quantity}" for one in catalogue if every or (one.own and not one.loops)]


def _catalogue(side: Side, quantities: Sequence[str]) -> tuple[KernelFacts, ...]:
    with worker_on(side) as one:
        one.send(ListKernels(str(side.root), tuple(quantities)))
        return one.require(KernelsListed).kernels
