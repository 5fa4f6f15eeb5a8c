"""`gradkernels doctor`: can this machine be trusted for timing, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path

from gradkernels.bench import doctor as examination
from gradkernels.bench.ab import selftest
from gradkernels.bench.ab.selftest import Trial
from gradkernels.bench.cli import options, parse
from gradkernels.bench.cli.files import require_writable, write_whole
from gradkernels.bench.cli.options import Format
from gradkernels.bench.report.terminal.columns import Column, markdown_table
from gradkernels.bench.report.terminal.consoles import INDENT, console_for, say
from gradkernels.key import Key
from gradkernels.names import counted
from gradkernels.record import line

SELFTEST_FILE = Path("results/selftest.csv")
MOST_TRIALS = 100_000


def doctor(
    trials: options.TrialsOption = None,
    out: options.SelftestOut = SELFTEST_FILE,
    resume: options.SelftestResume = False,
    force: options.SelftestForce = False,
    kernel: options.SelftestKernels = None,
    sizes: options.SelftestSizes = options.SELFTEST_SIZES,
    format_: options.Printed = Format.table,
) -> None:
    """Say what timing on this machine is worth, with a line of advice for each thing; or prove it with --selftest."""
    if trials is None:
        _refuse_without_selftest(out, resume, force, kernel, sizes)
        _show(examination.examine(), format_)
        return
    if not 1 <= trials <= MOST_TRIALS:
        raise ValueError(f"--selftest {trials}: it must be from 1 to {MOST_TRIALS:,} comparisons of each kind")
    _require_file(out, resume, force)
    found = selftest.read_trials(out) if out.exists() and not force else []
    plan = selftest.run_trials(trials, _kernels(kernel or selftest.TRIAL_KERNELS), parse.sizes(sizes), list(found))
    _selftest(plan, found, (1 + len(selftest.EXTRAS)) * trials, out)


def _refuse_without_selftest(out: Path, resume: bool, force: bool, kernel: list[str] | None, sizes: str) -> None:
    """Raise for the first option that means nothing without a selftest."""
    given = {"--out": out != SELFTEST_FILE, "--resume": resume, "--force": force}
    given |= {"--kernel": bool(kernel), "--sizes": sizes != options.SELFTEST_SIZES}
    for option, was_given in given.items():
        if was_given:
            raise ValueError(f"{option} is about the selftest; add --selftest N or leave it out")


def _show(findings: Sequence[examination.Finding], format_: Format) -> None:
    if format_ is Format.table:
        console = console_for()
        for finding in findings:
            say(console, f"{finding.name}: {finding.found}; {finding.advice}", hanging=INDENT)
        return
    writers = {Format.markdown: _markdown, Format.csv: _csv, Format.json: _json}
    sys.stdout.write(parse.chosen_writer(format_, writers)(findings))


def _markdown(findings: Sequence[examination.Finding]) -> str:
    columns = [Column(field.name, left=True) for field in fields(examination.Finding)]
    return markdown_table(columns, [astuple(finding) for finding in findings]) + "\n"


def _csv(findings: Sequence[examination.Finding]) -> str:
    return line(field.name for field in fields(examination.Finding)) + "".join(line(astuple(one)) for one in findings)


def _json(findings: Sequence[examination.Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=1) + "\n"


def _kernels(patterns: Sequence[str]) -> tuple[str, ...]:
    usual = (Key.parse(key).quantity for key in selftest.TRIAL_KERNELS)
    return tuple(one.key for one in parse.chosen_kernels(patterns, parse.quantities_of(patterns, usual)))


def _require_file(out: Path, resume: bool, force: bool) -> None:
    if resume and force:
        raise ValueError("--resume and --force were both given; one keeps the file, the other replaces it")
    require_writable(out, keep=not (resume or force))


def _selftest(plan: Iterable[Trial], done: list[Trial], total: int, out: Path) -> None:
    """Measure what is planned, and write it down one by one; the first of all takes the place of an earlier file.

    Args:
        plan: What is left to measure.
        done: What is in the file; more are added.
        total: How many there will be.
        out: The file.
    """
    try:
        for trial in plan:
            if done:
                selftest.append_trial(out, trial)
            else:
                write_whole(out, selftest.first_lines(trial))
            done.append(trial)
            print(
                f"{len(done)} of {total}: {trial.kernel} at n = {trial.n}, +{trial.extra}%: {trial.verdict} "
                f"{trial.ratio:.3f} [{trial.low:.3f}, {trial.high:.3f}], "
                f"{counted(trial.passes, 'pass')}, {trial.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    finally:
        where = f"{counted(len(done), 'row')} in {out}" if done else "no comparison was finished; nothing is written"
        print(*selftest.summarise(done), where, sep="\n")
