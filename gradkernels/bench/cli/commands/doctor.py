"""`gradkernels doctor`: can this machine be trusted for timing, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gradkernels.bench import doctor as examination
from gradkernels.bench.ab import selftest
from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.files import require_writable
from gradkernels.key import Key
from gradkernels.names import counted

SELFTEST_FILE = Path("results/selftest.csv")
SELFTEST_SIZES = ",".join(map(str, selftest.TRIAL_SIZES))


def doctor(
    trials: options.Trials = None,
    out: options.SelftestOut = SELFTEST_FILE,
    resume: options.SelftestResume = False,
    force: options.SelftestForce = False,
    kernel: options.SelftestKernels = None,
    sizes: options.SelftestSizes = SELFTEST_SIZES,
) -> None:
    """Say what timing on this machine is worth, with a line of advice for each thing; or prove it with --selftest."""
    if trials is None:
        for finding in examination.examine():
            print(f"{finding.name}: {finding.found}; {finding.advice}")
        return
    if trials < 1:
        raise ValueError(f"--selftest {trials}: at least 1 comparison of each kind is needed")
    _selftest(trials, _file(out, resume, force), _kernels(kernel or selftest.TRIAL_KERNELS), parse.sizes(sizes))


def _kernels(patterns: Sequence[str]) -> tuple[str, ...]:
    usual = (Key.parse(key).quantity for key in selftest.TRIAL_KERNELS)
    return tuple(one.key for one in parse.chosen_kernels(patterns, parse.quantities_of(patterns, usual)))


def _file(out: Path, resume: bool, force: bool) -> Path:
    if resume and force:
        raise ValueError("--resume and --force were both given; one keeps the file, the other replaces it")
    require_writable(out, keep=not (resume or force))
    if force:
        out.unlink(missing_ok=True)
    return out


def _selftest(count: int, out: Path, kernels: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    done = selftest.read_trials(out) if out.exists() else []
    total = (1 + len(selftest.EXTRAS)) * count
    try:
        for trial in selftest.run_trials(count, kernels, sizes, list(done)):
            selftest.append_trial(out, trial)
            done.append(trial)
            print(
                f"{len(done)} of {total}: {trial.kernel} at n = {trial.n}, +{trial.extra}%: {trial.verdict} "
                f"{trial.ratio:.3f} [{trial.low:.3f}, {trial.high:.3f}], "
                f"{counted(trial.passes, 'pass')}, {trial.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    finally:
        print(*selftest.summarise(done), f"{counted(len(done), 'row')} in {out}", sep="\n")
