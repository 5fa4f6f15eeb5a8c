"""How often `ab` is wrong on THIS machine: A against A, and A against A with exactly 5% more calls."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from gradkernels.bench.ab.client import here
from gradkernels.bench.ab.interleaved import Target
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.sequential import ratio, time_until_settled
from gradkernels.bench.stats.estimates import clopper_pearson
from gradkernels.bench.stats.verdict import verdict
from gradkernels.dispatch.machine import machine
from gradkernels.record import line

EXTRA = 5  # percent
TRIAL_KERNELS = ("numpy.matmul.gradient", "numpy.broadcast.per_sample")
TRIAL_SIZES = (10, 1000, 50_000)


@dataclass(frozen=True)
class Trial:
    """One comparison whose truth is known.

    Attributes:
        started: UTC, ISO 8601.
        machine: Kind of machine.
        kernel: Its key.
        n: Samples.
        extra: Percent more calls on the second side: 0 or 5.
        passes: How many it took.
        verdict: What the comparison found.
        ratio, low, high: Second over first with its bounds.
        seconds: How long the comparison took.
    """

    started: str
    machine: str
    kernel: str
    n: int
    extra: int
    passes: int
    verdict: str
    ratio: float
    low: float
    high: float
    seconds: float

    @property
    def different(self) -> bool:
        """Whether the comparison called the sides different."""
        return self.verdict in ("slower", "faster")


TRIAL_HEADER = line(field.name for field in fields(Trial))
_KINDS = {"int": int, "float": float, "str": str}


def run_trials(
    count: int, kernels: Sequence[str] = TRIAL_KERNELS, sizes: Sequence[int] = TRIAL_SIZES, skip: int = 0
) -> Iterator[Trial]:
    """Do `count` comparisons of A with A and as many of A with a real +5%, in turns, over kernels and sizes in turn.

    Args:
        count: Of each kind.
        kernels: Keys.
        sizes: Numbers of samples.
        skip: How many of the comparisons are there already.

    Raises:
        ValueError: A kernel cannot be timed.
    """
    grid = [(kernel, n) for n in sizes for kernel in kernels]
    plan = [Target(*grid[i % len(grid)], extra) for i in range(count) for extra in (0, EXTRA)]
    for target in plan[skip:]:
        yield run_trial(target)


def run_trial(target: Target) -> Trial:
    """Compare this gradkernels with itself."""
    started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    samples = time_until_settled([target], (here(), here()), Setting())[target]
    found = ratio(samples)
    if found is None:
        reasons = " ".join(filter(None, samples[-1].reasons))
        raise ValueError(f"{target.kernel} at n = {target.n} cannot be timed: {reasons}")
    seconds = round(time.perf_counter() - begun, 2)
    judged = verdict(found)
    value, low, high = (round(number, 6) for number in (found.ratio, found.low, found.high))
    return Trial(
        started, machine(), target.kernel, target.n, target.extra, found.passes, judged, value, low, high, seconds
    )


def append_trial(path: Path, trial: Trial) -> None:
    """Append one whole line, under a header if the file is new, and have it on the disk."""
    with path.open("ab") as file:
        file.write(("" if file.tell() else TRIAL_HEADER).encode() + line(astuple(trial)).encode())
        file.flush()
        os.fsync(file.fileno())


def read_trials(path: Path) -> list[Trial]:
    """Return the trials of a file; a half-written last line, as a killed selftest leaves it, is cut off.

    Raises:
        ValueError: Not a selftest's file, or of another machine.
    """
    content, header = path.read_bytes(), TRIAL_HEADER.encode()
    # A killed selftest may leave half a header too; anything else is somebody's, and not to be cut off.
    if not (content.startswith(header) or header.startswith(content)):
        raise ValueError(f"{path} is not a selftest's file; name another --out")
    whole = content[: content.rfind(b"\n") + 1]
    found = [_trial(row, path) for row in csv.DictReader(io.StringIO(whole.decode(errors="replace")))]
    if elsewhere := {one.machine for one in found} - {machine()}:
        places = ", ".join(sorted(elsewhere))
        raise ValueError(f"{path} was measured on {places}, this is {machine()}; name another --out")
    if whole != content:
        os.truncate(path, len(whole))
    return found


def _trial(row: dict[str, str], path: Path) -> Trial:
    try:
        return Trial(**{field.name: _KINDS[str(field.type)](row[field.name]) for field in fields(Trial)})
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} has a row that no selftest writes: {','.join(map(str, row.values()))}") from None


def summarise(found: Sequence[Trial]) -> list[str]:
    """Say in sentences the false-alarm rate and the power with their limits, and what a comparison takes."""
    same, slower = ([one for one in found if one.extra == extra] for extra in (0, EXTRA))
    lines = []
    if same:
        lines.append(_rate("false alarms, A against A", sum(one.different for one in same), len(same)))
    if slower:
        lines.append(_rate(f"found, A against +{EXTRA}%", sum(one.verdict == "slower" for one in slower), len(slower)))
    if found:
        lines.append(_cost(found))
    return lines


def _cost(found: Sequence[Trial]) -> str:
    seconds, passes = [one.seconds for one in found], Counter(one.passes for one in found)
    taken = ", ".join(f"{count} took {number}" for number, count in sorted(passes.items()))
    return f"seconds per comparison: {median(seconds):.1f} in the median, {max(seconds):.1f} at most; passes: {taken}"


def _rate(name: str, hits: int, trials: int) -> str:
    low, high = clopper_pearson(hits, trials)
    return f"{name}: {hits} of {trials} = {hits / trials:.1%} (95% limits {low:.1%} to {high:.1%}, Clopper-Pearson)"
