"""How a run is paced: passes, time, limits and what is printed of it, from what was typed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.options import Format
from gradkernels.bench.isolation.limits import ProcessLimits, most_bytes, size_in_bytes
from gradkernels.bench.race.elimination import ELIMINATION_LOOKS
from gradkernels.bench.report.pictures.content import PictureKind
from gradkernels.bench.run.session import Schedule
from gradkernels.key import matching


@dataclass(frozen=True)
class ShownWinners:
    """How the winners are printed and drawn.

    Attributes:
        calls: How often a kernel will be called; None for many.
        format_: How they are printed; what is no table has standard output to itself.
        wide: Whether tables have all columns, however wide they get.
        kind: What the picture shows; None for times.
        baseline: The way that others are compared with in it; None for a usual one.
    """

    calls: int | None = None
    format_: Format = Format.table
    wide: bool = False
    kind: PictureKind | None = None
    baseline: str | None = None

    def require_meaning(self) -> None:
        """Raise a ValueError for a picture that no results could give."""
        from gradkernels.bench.report.pictures.run_content import require_meaning

        require_meaning(self.kind or PictureKind.time, self.baseline, self.calls)

    def require_baseline(self, kernels: Iterable[str]) -> None:
        """Raise a ValueError for a baseline that is none of the kernels of a run."""
        if self.baseline is None:
            return
        try:
            matching([self.baseline], list(dict.fromkeys(kernels)))
        except ValueError as error:
            raise ValueError(f"--baseline {self.baseline}, to compare with in the picture: {error}") from None


@dataclass(frozen=True)
class Pace:
    """How long to measure, what for, and how the winners are told.

    Attributes:
        schedule: Passes, and seconds for all of them.
        race: Whether to find the winners only.
        limits: Of a measuring process.
        shown: How they are printed and drawn.
    """

    schedule: Schedule
    race: bool
    limits: ProcessLimits
    shown: ShownWinners = ShownWinners()

    def shared_by(self, plans: int) -> Schedule:
        """Return the schedule of each of so many plans."""
        if plans == 1:
            return self.schedule
        text = f"{self.schedule.text} for {plans} combinations"
        return replace(self.schedule, budget=self.schedule.budget / plans, text=text)


def schedule_of(passes: int | None, race: bool, resume: bool, budget: str) -> Schedule:
    """Return passes and time of a run.

    Args:
        passes: As typed; None for the usual ones.
        race: Whether only the winners are wanted.
        resume: Whether it goes on with a file.
        budget: As typed.

    Raises:
        ValueError: They do not fit together, or the budget is no time.
    """
    seconds = parse.duration(budget)
    if race and resume:
        raise ValueError("--race and --resume were both given; a race starts afresh")
    if race and passes is not None:
        raise ValueError(f"--race and --passes {passes} were both given; a race does as many passes as it needs")
    if passes is not None and passes < 1:
        raise ValueError(f"--passes {passes}: at least 1 is needed")
    usual = ELIMINATION_LOOKS[-1][0] if race else options.USUAL_PASSES
    return Schedule(passes or usual, seconds, budget)


def limits_of(timeout: str, max_bytes: str | None, device: str) -> ProcessLimits:
    """Return the limits of a measuring process.

    Args:
        timeout: As typed.
        max_bytes: As typed; None for most of the machine's memory.
        device: Where it computes.

    Raises:
        ValueError: One is no time, or no size.
    """
    usual = most_bytes() if device == "cpu" else None  # CUDA maps the device's memory too
    memory = usual if max_bytes is None else size_in_bytes(max_bytes)
    return ProcessLimits(parse.duration(timeout, "--timeout"), memory)
