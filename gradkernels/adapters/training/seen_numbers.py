"""What a watch has seen, as the few numbers by name that training libraries log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gradkernels.adapters.training.other_processes import joined_summaries, require_joined
from gradkernels.watch import Watch

PREFIX = "gradients/"


def watched(wanted: Mapping[str, Mapping[str, Any]], parts: int) -> dict[str, Mapping[str, Any]]:
    """Return what is to be watched for quantities to be logged: of several batches the noise scale needs moments.

    Args:
        wanted: Options by quantity.
        parts: Number of batches of a step, in all processes.
    """
    return {("moments" if parts > 1 and name == "noise_scale" else name): one for name, one in wanted.items()}


class SeenNumbers:
    """The numbers of the last step that was looked at, once.

    Args:
        seen: The watch.
        names: Quantities that are logged; `noise_scale` also where only moments are watched.
        processes: Number of those that take each step together.

    Raises:
        ValueError: A quantity that the samples of several processes do not have together.
    """

    def __init__(self, seen: Watch, names: Iterable[str], processes: int = 1) -> None:
        self._seen, self._names, self._processes, self._told = seen, tuple(names), processes, 0
        self._joined = dict[str, Mapping[str, float]]()
        if processes > 1:
            require_joined(self._names)

    def end_step(self) -> None:
        """Join what several processes have seen of a step; all of them have to call this after each one."""
        if self._processes > 1 and len(self._seen.history) > self._told:
            self._told = len(self._seen.history)
            self._joined = joined_summaries(self._seen, self._names)

    def take(self) -> dict[str, float]:
        """Return them by name, `gradients/norms_mean`; none where no step was looked at since."""
        records = self._seen.history[self._told :]
        self._told = len(self._seen.history)
        last, self._joined = self._joined or {one.quantity: one.summary for one in records}, {}
        if "noise_scale" in self._names and "noise_scale" not in last and "moments" in last:
            last["noise_scale"] = {"value": _ratio(last["moments"])}
        return {
            PREFIX + (name if key == "value" else f"{name}_{key.replace(' ', '_')}"): value
            for name in self._names
            for key, value in last.get(name, {}).items()
        }


def _ratio(moments: Mapping[str, float]) -> float:
    """Return tr(Sigma) / |G|^2."""
    of_mean = moments["norm of mean"] ** 2
    return moments["trace"] / of_mean if of_mean else float("inf")
