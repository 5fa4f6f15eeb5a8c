"""The trials on one kind of input: when one begins, and what it makes of a choice."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from gradkernels.dispatch.request import Request
from gradkernels.dispatch.select import Choice
from gradkernels.dispatch.trials.trial import KernelTrial
from gradkernels.kernel import Kernel

SETTLING_CALLS = 2
"""Of a kind of input before a trial begins: a program that calls once or twice gains nothing by one."""


@dataclass
class Trials:
    """The trials on one kind of input, one for each power of two of samples.

    Attributes:
        by_size: They, by the bits of the number of samples.
    """

    by_size: dict[int, KernelTrial] = field(default_factory=dict)

    def at(self, request: Request) -> KernelTrial | None:
        """Return the trial at sizes about that of the request, None where there is none."""
        return self.by_size.get(request.case.n.bit_length())

    def apply(self, choice: Choice, request: Request, calls: int, excluded: Container[Kernel]) -> Choice:
        """Return the choice, or whose turn it is where it has to stand against its rivals.

        Args:
            choice: Made from what is known beforehand.
            request: What is to be computed.
            calls: Of this kind of input so far, this one included.
            excluded: Kernels that are not to be tried in this call.
        """
        trial = self.at(request)
        begins = calls >= first_trial(choice, request.criteria.calls)
        if trial is None and begins and not _deterministic():
            trial = self.by_size[request.case.n.bit_length()] = KernelTrial((choice.kernel, *choice.rivals))
        return choice if trial is None else trial.apply(choice, excluded)


def first_trial(choice: Choice, expected: int | None) -> float:
    """Return the number of the call of its kind from which rivals are tried; infinity if they never are.

    Args:
        choice: That has the rivals.
        expected: Calls that the caller announced.
    """
    pays = max((rival.pays_after for rival in choice.rivals), default=0)
    least = max(pays, SETTLING_CALLS) + 1
    if not choice.rivals or (expected is not None and expected < least):
        return float("inf")
    return least if expected is None else 1


def _deterministic() -> bool:
    """Return whether the same program is to give the same bits again, whatever the clock says."""
    import torch

    return torch.are_deterministic_algorithms_enabled()
