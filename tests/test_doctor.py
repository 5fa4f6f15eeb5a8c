"""What the doctor finds, and how its selftest counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gradkernels.bench import doctor
from gradkernels.bench.ab import selftest
from gradkernels.bench.ab.interleaved import PairedSample, Target
from gradkernels.bench.ab.selftest import EXTRAS, TRIAL_HEADER, Trial, append_trial, read_trials, summarise
from gradkernels.bench.cli import main
from gradkernels.dispatch.machine import machine

NAMES = ["timer", "pinning", "governor", "turbo", "load", "slow mode", "drift", "thread pools"]


def alternating(fast, slow, every):
    times = np.full(1000, fast)
    times[::every] = slow
    return times


def test_every_finding_is_one_line_with_advice(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "CONTROL_SECONDS", 0.1)
    monkeypatch.setattr(doctor, "examine", lambda examine=doctor.examine: examine(0.1))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == NAMES
    assert all(line.count("; ") >= 1 and not line.endswith("; ") for line in lines)


@pytest.mark.parametrize(
    ("times", "found", "fine"),
    [
        (alternating(1e-6, 1.7e-6, 4), "25.0% of slices, 1.70 times as long as the fast ones", False),
        (alternating(1e-6, 1.7e-6, 100), "1.0% of slices, 1.70 times as long as the fast ones", True),
        (alternating(1e-6, 1.2e-6, 4), "never", True),
    ],
)
def test_slow_mode_is_the_share_of_slices_beyond_1_3_times_the_fast_ones(times, found, fine):
    finding = doctor.slow_mode(times)
    assert finding.found == found
    assert (finding.advice == "fine") is fine


@pytest.mark.parametrize(
    ("last", "found", "fine"), [(1.1, "+10.0%", False), (0.9, "-10.0%", False), (1.01, "+1.0%", True)]
)
def test_drift_compares_the_halves(last, found, fine):
    finding = doctor.drift(np.repeat([1.0, last], 500))
    assert finding.found.startswith(found)
    assert (finding.advice == "fine") is fine


@pytest.mark.parametrize(("load", "fine"), [(0.1, True), (50, False)])
def test_load_is_per_core(monkeypatch, load, fine):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0))
    finding = doctor.load()
    assert finding.found.startswith(f"{load / 4:.0%} of 4 cores")
    assert (finding.advice == "fine") is fine


@pytest.mark.parametrize(
    ("file", "text", "finding", "advice"),
    [
        (
            "cpu0/cpufreq/scaling_governor",
            "powersave\n",
            ("governor", "powersave"),
            "cpupower frequency-set -g performance",
        ),
        ("cpu0/cpufreq/scaling_governor", "performance\n", ("governor", "performance"), "fine"),
        ("intel_pstate/no_turbo", "0\n", ("turbo", "on"), "echo 1 |"),
        ("intel_pstate/no_turbo", "1\n", ("turbo", "off"), "fine"),
        ("cpufreq/boost", "1\n", ("turbo", "on"), "echo 0 |"),
        ("cpufreq/boost", "0\n", ("turbo", "off"), "fine"),
    ],
)
def test_frequency_settings(tmp_path, monkeypatch, file, text, finding, advice):
    monkeypatch.setattr(doctor, "_CPUS", tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    found = next(one for one in (*doctor.governor(), doctor.turbo()) if (one.name, one.found) == finding)
    assert advice in found.advice


# The selftest.


@pytest.fixture
def duels(monkeypatch):
    """Comparisons without processes: what is truly slower is found, but in every third group of four."""
    played = itertools.count()
    seen = []

    def time_until_settled(targets, sides, setting):
        (target,) = targets
        seen.append(target)
        blind = next(played) // 4 % 3 == 2
        noise = (0.001, -0.002, 0.002, -0.001, 0.003, -0.003, 0.001, -0.001)
        logs = [np.log1p(0 if blind else target.extra / 100) + one for one in noise]
        return {target: [PairedSample(("ok", "ok"), ("", ""), log, (1e-6, 1e-6)) for log in logs]}

    monkeypatch.setattr(selftest, "time_until_settled", time_until_settled)
    return seen


def test_the_selftest_takes_turns_over_kernels_sizes_and_truths(duels):
    list(selftest.run_trials(3, ("numpy.a.norms", "numpy.b.norms"), (10, 100)))
    assert duels == [
        Target(f"numpy.{name}.norms", n, extra)
        for name, n in (("a", 10), ("b", 10), ("a", 100))
        for extra in (0, 2, 3, 5)
    ]


def test_it_writes_a_row_per_comparison_and_goes_on_where_it_stopped(duels, tmp_path, capsys):
    out = tmp_path / "selftest.csv"
    assert main(["doctor", "--selftest", "2", "--out", str(out)]) == 0
    assert len(read_trials(out)) == 8
    with out.open("a") as file:
        file.write("2026-01-01T00:00:00+00:00,cut o")
    assert main(["doctor", "--selftest", "3", "--out", str(out), "--resume"]) == 0
    assert len(duels) == 12
    assert [(one.extra, one.passes) for one in read_trials(out)] == [(0, 8), (2, 8), (3, 8), (5, 8)] * 3
    printed = capsys.readouterr().out.splitlines()[-7:]
    limits = "(95% limits 9.4% to 99.2%, Clopper-Pearson)"
    assert printed[:4] == [
        "false alarms, A against A: 0 of 3 = 0.0% (95% limits 0.0% to 70.8%, Clopper-Pearson); 3 same, 0 undecided",
        f"found, A against +2%: 2 of 3 = 66.7% {limits}; 1 same, 0 faster, 0 undecided",
        f"found, A against +3%: 2 of 3 = 66.7% {limits}; 1 same, 0 faster, 0 undecided",
        f"found, A against +5%: 2 of 3 = 66.7% {limits}; 1 same, 0 faster, 0 undecided",
    ]
    # Squares of 1, 2, 2, 1, 3, 3, 1, 1 thousandths add up to 30, over 7.
    assert printed[4] == "noise of a pass: 0.2% in the median, 0.2% to 0.2%"
    assert {one.noise for one in read_trials(out)} == {0.00207}


def test_what_is_there_already_is_not_compared_again_in_whatever_order_it_stands(duels):
    there = [trial(5, "slower"), trial(0, "same"), trial(5, "slower"), trial(3, "slower")]
    list(selftest.run_trials(2, ("numpy.a.norms",), (10,), there))
    assert [target.extra for target in duels] == [2, 0, 2, 3]


def test_verdicts_by_an_earlier_rule_are_not_added_to(duels, tmp_path, capsys):
    out = tmp_path / "selftest.csv"
    header = "started,machine,kernel,n,extra,passes,verdict,ratio,low,high,seconds\n"
    out.write_text(header)
    assert main(["doctor", "--selftest", "1", "--out", str(out), "--resume"]) == 2
    says = f"gradkernels: {out} has verdicts by an earlier rule, for which 5% were the same; name another --out\n"
    assert capsys.readouterr().err == says
    assert out.read_text() == header


def test_it_keeps_a_file_unless_told_otherwise(duels, tmp_path, capsys):
    out = tmp_path / "selftest.csv"
    out.write_text(TRIAL_HEADER)
    assert main(["doctor", "--selftest", "1", "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    out.write_text("a,b\n1,2\n")
    assert main(["doctor", "--selftest", "1", "--out", str(out), "--resume"]) == 2
    assert "is not a selftest's file" in capsys.readouterr().err
    assert main(["doctor", "--selftest", "1", "--out", str(out), "--force"]) == 0
    assert len(read_trials(out)) == 4


def test_what_it_replaces_stays_until_there_is_something_to_replace_it(duels, tmp_path, monkeypatch, capsys):
    out = tmp_path / "selftest.csv"
    out.write_text("hours of measuring")
    with monkeypatch.context() as patch:
        patch.setattr(selftest, "run_trial", interrupt)
        assert main(["doctor", "--selftest", "1", "--out", str(out), "--force"]) == 130
    assert capsys.readouterr().out == "no comparison was finished; nothing is written\n"
    assert out.read_text() == "hours of measuring"
    assert main(["doctor", "--selftest", "1", "--out", str(out), "--force"]) == 0
    assert len(read_trials(out)) == 4
    assert list(tmp_path.iterdir()) == [out]


def interrupt(target):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "content", [b"precious", b"a,b\n1,2\n", b"\xff\x00\xaa\n", TRIAL_HEADER.encode()[:-1] + b",more"]
)
def test_what_is_no_file_of_its_own_is_refused_and_stays_as_it_is(duels, tmp_path, capsys, content):
    out = tmp_path / "notes.txt"
    out.write_bytes(content)
    assert main(["doctor", "--selftest", "1", "--out", str(out), "--resume"]) == 2
    assert capsys.readouterr().err == f"gradkernels: {out} is not a selftest's file; name another --out\n"
    assert out.read_bytes() == content


def test_half_a_header_is_written_again(duels, tmp_path):
    out = tmp_path / "x.csv"
    out.write_text(TRIAL_HEADER[:20])
    assert main(["doctor", "--selftest", "1", "--out", str(out), "--resume"]) == 0
    assert out.read_text().startswith(TRIAL_HEADER)
    assert len(read_trials(out)) == 4


def test_interrupted_it_reports_what_is_there(duels, tmp_path, monkeypatch, capsys):
    real = selftest.append_trial

    def interrupted(path, trial):
        real(path, trial)
        if len(duels) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "append_trial", interrupted)
    assert main(["doctor", "--selftest", "5", "--out", str(tmp_path / "x.csv")]) == 130
    assert "found, A against +2%: 1 of 1" in capsys.readouterr().out
    assert len(read_trials(tmp_path / "x.csv")) == 3


def trial(extra, verdict, passes=8, seconds=4.0, where=None):
    key = (where or machine(), "numpy.a.norms", 10, extra)
    return Trial("2026-01-01T00:00:00+00:00", *key, passes, verdict, 1.0, 0.9, 1.1, seconds, noise=seconds / 400)


def test_both_directions_are_false_alarms_and_only_slower_is_found():
    found = [trial(0, verdict) for verdict in ("slower", "faster", "same", "undecided")]
    found += [trial(extra, says, 16, 8.0) for extra in EXTRAS for says in ("slower", "faster", "same", "same")]
    alarms, two, five, noise, cost = summarise(found[:8] + found[12:])
    assert alarms.startswith("false alarms, A against A: 2 of 4 = 50.0%")
    assert alarms.endswith("; 1 same, 1 undecided")
    assert two.startswith("found, A against +2%: 1 of 4 = 25.0%")
    assert five.startswith("found, A against +5%: 1 of 4 = 25.0%")
    assert five.endswith("; 2 same, 1 faster, 0 undecided")
    assert noise == "noise of a pass: 2.0% in the median, 1.0% to 2.0%"
    assert cost == "seconds per comparison: 8.0 in the median, 8.0 at most; passes: 4 took 8, 8 took 16"


def test_rows_of_another_machine_are_refused(tmp_path):
    append_trial(tmp_path / "x.csv", trial(0, "same", where="elsewhere"))
    with pytest.raises(ValueError, match="was measured on elsewhere, this is"):
        read_trials(tmp_path / "x.csv")


def test_it_refuses_less_than_one_comparison(capsys):
    assert main(["doctor", "--selftest", "0"]) == 2
    assert "it must be from 1 to 100,000 comparisons" in capsys.readouterr().err
