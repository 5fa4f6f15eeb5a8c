"""What several processes have seen of a step that they take together, each of its own samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from gradkernels.engines.hooks.precision import widen
from gradkernels.watch import Watch
from gradkernels.watch.values.summaries import joined_steps, summarized

JOINED = ("norms", "noise_scale", "moments")
"""Quantities of all samples that follow from those of each process's own."""


def require_joined(names: Iterable[str]) -> None:
    """Raise a ValueError where a quantity of all processes' samples would need the gradients of each other's."""
    if others := [name for name in names if name not in JOINED]:
        raise ValueError(
            f"{others[0]} of the samples of several processes does not follow from what each has seen; there are "
            f"{', '.join(JOINED)}: ask for these, or train in one process"
        )


def joined_summaries(seen: Watch, names: Iterable[str]) -> dict[str, Mapping[str, float]]:
    """Return the summaries of the step that each process has just ended, over all their samples.

    All processes have to call it with the same names.

    Args:
        seen: This process's watch.
        names: Quantities; `noise_scale` is made of moments.
    """
    found = dict[str, Mapping[str, float]]()
    for name in names:
        if name == "norms":
            found[name] = summarized(name, _joined_norms(seen))()
        elif not {"moments", "noise_scale"} & found.keys():
            found |= _of_moments(seen.n, seen.moments)
    return {name: found[name] for name in names}


def _joined_norms(seen: Watch) -> Any:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (seen.n, _on_cpu(seen.norms)))
    return joined_steps("norms", [n for n, _ in parts], [norms for _, norms in parts])


def _on_cpu(norms: Any) -> Any:
    return {group: one.cpu() for group, one in norms.items()} if isinstance(norms, dict) else norms.cpu()


def _of_moments(n: int, moments: Any) -> dict[str, Mapping[str, float]]:
    """Return length of the mean, trace of the covariance and noise scale of all processes' samples.

    Args:
        n: Number of this process's samples.
        moments: Of these, their variance divided by n.
    """
    means = torch.cat([widen(one).double().flatten() for one in moments.mean.values()])
    trace = sum(float(widen(one).double().sum()) for one in moments.variance.values())
    squares = n * (trace + float(means.square().sum()))
    sums = torch.cat([n * means, means.new_tensor([squares, n])])
    dist.all_reduce(sums)
    count = float(sums[-1])
    of_mean = float((sums[:-2] / count).square().sum())
    of_all = max(0.0, float(sums[-2]) / count - of_mean)
    return {
        "moments": {"norm of mean": of_mean**0.5, "trace": of_all},
        "noise_scale": {"value": of_all / of_mean if of_mean else float("inf")},
    }
