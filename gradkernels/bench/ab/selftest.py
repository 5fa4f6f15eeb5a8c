"""How often `ab` is wrong on THIS machine: A against A, and A against A with exactly 2, 3 and 5% more calls."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, stdev

from gradkernels.bench.ab.client import here
from gradkernels.bench.ab.interleaved import Target
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.sequential import ratio, time_until_settled
from gradkernels.bench.stats.estimates import clopper_pearson
from gradkernels.bench.stats.verdict import verdict
from gradkernels.dispatch.machine import machine
from gradkernels.record import line

EXTRAS = (2, 3, 5)  # percent
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
        extra: Percent more calls on the second side, which make it slower by as much: 0, 2, 3 or 5.
        passes: How many it took.
        verdict: What the comparison found.
        ratio, low, high: Second over first with its bounds.
        seconds: How long the comparison took.
        noise: Standard deviation over passes of the logarithm of the ratio.
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
    noise: float


TRIAL_HEADER = line(field.name for field in fields(Trial))
_EARLIER_HEADER = line(field.name for field in fields(Trial) if field.name != "noise")
_KINDS = {"int": int, "float": float, "str": str}


def run_trials(
    count: int,
    kernels: Sequence[str] = TRIAL_KERNELS,
    sizes: Sequence[int] = TRIAL_SIZES,
    done: Iterable[Trial] = (),
) -> Iterator[Trial]:
    """Do `count` comparisons of A with A and of A with each real slowdown, in turns, over kernels and sizes in turn.

    Args:
        count: Of each kind.
        kernels: Keys.
        sizes: Numbers of samples.
        done: The comparisons that are there already.

    Raises:
        ValueError: A kernel cannot be timed.
    """
    grid = [(kernel, n) for n in sizes for kernel in kernels]
    plan = [Target(*grid[i % len(grid)], extra) for i in range(count) for extra in (0, *EXTRAS)]
    there = Counter(Target(one.kernel, one.n, one.extra) for one in done)
    for target in plan:
        if there[target]:
            there[target] -= 1
        else:
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
    noise = round(stdev(sample.log for sample in samples), 6)
    value, low, high = (round(number, 6) for number in (found.ratio, found.low, found.high))
    where = started, machine(), target.kernel, target.n, target.extra
    return Trial(*where, found.passes, verdict(found), value, low, high, seconds, noise)


def first_lines(trial: Trial) -> bytes:
    """Return the content of a file with one trial."""
    return (TRIAL_HEADER + line(astuple(trial))).encode()


def append_trial(path: Path, trial: Trial) -> None:
    """Append one whole line, under a header if the file is new, and have it on the disk."""
    with path.open("ab") as file:
        file.write(line(astuple(trial)).encode() if file.tell() else first_lines(trial))
        file.flush()
        os.fsync(file.fileno())


def read_trials(path: Path) -> list[Trial]:
    """Return the trials of a file; a half-written last line, as a killed selftest leaves it, is cut off.

    Raises:
        ValueError: Not a selftest's file, of another machine, or with verdicts by an earlier rule.
    """
    content, header = path.read_bytes(), TRIAL_HEADER.encode()
    if content.startswith(_EARLIER_HEADER.encode()):
        raise ValueError(f"{path} has verdicts by an earlier rule, for which 5% were the same; name another --out")
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
    """Say in sentences what became of each kind of comparison, with limits, how noisy passes were, and what it took."""
    lines = []
    for extra in (0, *EXTRAS):
        if alike := [one.verdict for one in found if one.extra == extra]:
            lines.append(_outcomes(extra, Counter(alike), len(alike)))
    if found:
        noise = sorted(one.noise for one in found)
        lines.append(f"noise of a pass: {median(noise):.1%} in the median, {noise[0]:.1%} to {noise[-1]:.1%}")
        lines.append(_cost(found))
    return lines


def _outcomes(extra: int, counts: Counter[str], trials: int) -> str:
    if not extra:
        name, hits = "false alarms, A against A", counts["slower"] + counts["faster"]
        others = f"{counts['same']} same, {counts['undecided']} undecided"
    else:
        name, hits = f"found, A against +{extra}%", counts["slower"]
        others = f"{counts['same']} same, {counts['faster']} faster, {counts['undecided']} undecided"
    low, high = clopper_pearson(hits, trials)
    limits = f"95% limits {low:.1%} to {high:.1%}, Clopper-Pearson"
    return f"{name}: {hits} of {trials} = {hits / trials:.1%} ({limits}); {others}"


def _cost(found: Sequence[Trial]) -> str:
    seconds, passes = [one.seconds for one in found], Counter(one.passes for one in found)
    taken = ", ".join(f"{count} took {number}" for number, count in sorted(passes.items()))
    return f"seconds per comparison: {median(seconds):.1f} in the median, {max(seconds):.1f} at most; passes: {taken}"
