"""One trial of an audit, and how it went."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a trial went."""

    ok = "ok"
    wrong = "wrong"
    raised = "raised"
    skipped = "skipped"


@dataclass(frozen=True)
class AuditTrial:
    """What a tool was asked for, and what came of it.

    Attributes:
        name: Of the trial.
        asks: What the tool was called with.
        outcome: Whether the rows are right, wrong, there was an exception, or it was not called.
        says: Where the first error is, or what was raised, or why it was not called.
        parameter: The first parameter that is wrong, in theta's order.
        sample: The first sample of the batch that is wrong in it.
        wrong_parameters: Every parameter that is wrong.
        wrong_samples: Every sample that is wrong.
        diagnosis: What the wrong rows are, where that is known.
        error: The largest error, relative to the length of its row or its rounding scale.
        tolerance: What was allowed.
    """

    name: str
    asks: str
    outcome: Outcome
    says: str = ""
    parameter: str | None = None
    sample: int | None = None
    wrong_parameters: tuple[str, ...] = ()
    wrong_samples: tuple[int, ...] = ()
    diagnosis: str = ""
    error: float | None = None
    tolerance: float | None = None

    @property
    def explained(self) -> str:
        """What is said of it, with the diagnosis."""
        return "; ".join(part for part in (self.says, self.diagnosis) if part)
