"""What an audit has found: a table as text, JSON, or an HTML page."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from gradkernels.check import Disagreement
from gradkernels.names import counted
from gradkernels.tool_audit.audit_trial import AuditTrial, Outcome
from gradkernels.tool_audit.html import audit_page

WIDTH = 80
TRIAL_COLUMNS = ("trial", "asked for", "outcome", "error", "allowed")


@dataclass(frozen=True)
class AuditReport:
    """An audit of one tool on one problem and batch.

    Attributes:
        tool: What was audited.
        problem: Name of the problem.
        n: Number of samples.
        parameters: Number of parameters with names.
        entries: Number of their entries, P.
        dtype: Of the parameters.
        versions: Of the libraries.
        trials: In their order.
        left: What calls have left otherwise than it was, besides data and parameters: no wrong row, but a surprise.
    """

    tool: str
    problem: str
    n: int
    parameters: int
    entries: int
    dtype: str
    versions: dict[str, str]
    trials: tuple[AuditTrial, ...]
    left: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no trial gave wrong rows, and the batch itself gave the right ones."""
        outcomes = {trial.name: trial.outcome for trial in self.trials}
        return outcomes.get("batch") is Outcome.ok and Outcome.wrong not in outcomes.values()

    @property
    def first_wrong(self) -> AuditTrial | None:
        """The first trial with wrong rows."""
        return next((trial for trial in self.trials if trial.outcome is Outcome.wrong), None)

    def require(self) -> None:
        """Raise a Disagreement unless the audit is passed."""
        if not self.ok:
            raise Disagreement(f"{self.tool} on {self.problem}: {self.verdict}")

    @property
    def verdict(self) -> str:
        """One sentence: right, or what is wrong first."""
        wrong = self.first_wrong
        if wrong is None:
            batch = next((trial for trial in self.trials if trial.name == "batch"), None)
            if batch is None or batch.outcome is not Outcome.ok:
                return f"no rows of the batch: {batch.says if batch else 'it was not asked for'}"
            raised = [trial.name for trial in self.trials if trial.outcome is Outcome.raised]
            return "no wrong row" + (f"; raised an exception: {', '.join(raised)}" if raised else "")
        places = [f"parameter {wrong.parameter}"] if wrong.parameter else []
        places += [f"sample {wrong.sample}"] if wrong.sample is not None else []
        at = f" at {', '.join(places)}" if places else ""
        return f"wrong in '{wrong.name}'{at}: {wrong.explained}"

    def __str__(self) -> str:
        """Lay the trials out as a table, with what is to be said of them below."""
        rows = [TRIAL_COLUMNS, *map(trial_cells, self.trials)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(TRIAL_COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        notes = [f"{name}: {says}" for name, says in self.notes]
        return "\n".join([_folded(self.title), *lines, *map(_folded, [*notes, self.verdict])]) + "\n"

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What is to be said of trials, by name, once of those that are wrong in the same way; and of what is left."""
        seen, found = set[tuple[str, ...]](), list[tuple[str, str]]()
        for trial in self.trials:
            kind = (trial.diagnosis, *trial.wrong_parameters)
            if trial.explained and not (trial.diagnosis and kind in seen):
                found.append((trial.name, note(trial)))
            seen.add(kind)
        return [*found, *(("afterwards", says) for says in self.left)]

    @property
    def title(self) -> str:
        """What was audited, on what."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        size = f"{counted(self.parameters, 'parameter')} ({self.entries:,} entries)"
        return f"{self.tool} on {self.problem}, n = {self.n}, {size}, {self.dtype}; {versions}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        wrong = self.first_wrong
        first = wrong and {"trial": wrong.name, "parameter": wrong.parameter, "sample": wrong.sample}
        return {**asdict(self), "ok": self.ok, "verdict": self.verdict, "first_wrong": first}

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite as null."""
        return json.dumps(_finite(self.as_dict()), indent=2, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """Return a page of its own, for any browser."""
        return audit_page(
            self.title, self.verdict, self.ok, (TRIAL_COLUMNS, *map(trial_cells, self.trials)), self.notes
        )

    def _repr_html_(self) -> str:
        """Show the page in a notebook."""
        return self.to_html()


def trial_cells(trial: AuditTrial) -> tuple[str, ...]:
    """Return what the table has of a trial."""
    numbers = ("" if value is None else f"{value:.1e}" for value in (trial.error, trial.tolerance))
    return (trial.name, trial.asks, str(trial.outcome), *numbers)


def note(trial: AuditTrial) -> str:
    """Say where a trial was wrong, what was raised, or why it was not made."""
    at = f"{trial.parameter}: " if trial.parameter and trial.sample is not None else ""
    many = ""
    if trial.wrong_samples:
        parameters = counted(len(trial.wrong_parameters), "parameter")
        many = f" ({parameters} and {counted(len(trial.wrong_samples), 'sample')} wrong)"
    return f"{at}{trial.explained}{many}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _folded(sentence: str) -> str:
    """Return a sentence in lines of a terminal."""
    return textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
