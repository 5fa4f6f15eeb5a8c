"""`run --shard`: disjoint cases, whole, all of them together the run, by the options alone; and their merged file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pages
import pytest
import typer
import yaml
from measured import STEADY, changed, measure_at_once, passes

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.cli.app import app
from gradkernels.bench.isolation.messages import decode, encode
from gradkernels.bench.run.messages import Orders
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.sweep.coverage import Coverage, origin_of
from gradkernels.bench.sweep.shards import Shard, plan_key, shard_from, sharded
from gradkernels.record import HEADER, append, read

KERNELS = ("numpy.broadcast.per_sample", "numpy.broadcast+.norms")
PLANS = [Plan("linear", KERNELS, (10, 100, 1000), features=d) for d in (1, 3)]
OPTIONS = ["--kernel", "numpy.broadcast", "--quantity", "norms,per_sample", "--features", "1,3", "--passes", "1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, in which runs measure nothing and have their rows at once."""
    monkeypatch.chdir(tmp_path)
    measure_at_once(monkeypatch)
    return tmp_path


def dealt(count, plans=PLANS):
    """What each shard measures."""
    return [
        [(plan.features, case.n, case.quantity.name) for plan in sharded(plans, Shard(i, count)) for case in plan.cases]
        for i in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", range(1, 13))
def test_all_shards_together_are_the_run_and_no_two_share_a_case(count):
    found = dealt(count)
    whole = {(d, n, name) for d in (1, 3) for n in (10, 100, 1000) for name in ("per_sample", "norms")}
    assert sorted(case for one in found for case in one) == sorted(whole)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_largest_cases_are_dealt_out_first_and_back_again():
    assert dealt(4) == [
        [(1, 10, "per_sample"), (1, 1000, "per_sample"), (3, 100, "norms")],
        [(1, 10, "norms"), (1, 1000, "norms"), (3, 100, "per_sample")],
        [(1, 100, "norms"), (3, 10, "per_sample"), (3, 1000, "per_sample")],
        [(1, 100, "per_sample"), (3, 10, "norms"), (3, 1000, "norms")],
    ]


def test_a_shard_is_the_same_whatever_is_installed(monkeypatch):
    from gradkernels.backend import BACKENDS

    before = dealt(5), plan_key(PLANS)
    monkeypatch.setattr(type(BACKENDS["numba"]), "installed", False)
    assert (dealt(5), plan_key(PLANS)) == before


def test_the_key_of_a_plan_is_that_of_its_cases_data_and_kernels():
    assert plan_key(PLANS) == plan_key(PLANS[::-1])
    others = [Plan("linear", KERNELS, (10, 100)), Plan("linear", KERNELS, (10, 100, 1000), seed=1)]
    others += [Plan("linear", KERNELS[:1], (10, 100, 1000)), Plan("logistic", KERNELS, (10, 100, 1000))]
    assert len({plan_key([one]) for one in [*others, Plan("linear", KERNELS, (10, 100, 1000))]}) == 5


def test_a_measuring_process_is_told_of_the_cases_of_its_shard():
    (plan, _) = sharded(PLANS, Shard(1, 2))
    orders = Orders(plan, 1, 0.0, 1.0, "1s")
    told = decode(encode(orders), (Orders,)).plan
    assert told == plan
    assert [case.n for case in told.cases] == [case.n for case in plan.cases]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "3", "3/", "/4", "a/b", "1/2/3", "-1/4", "1.0/2", "1/1000001"])
def test_what_is_no_shard_is_one_sentence(here, capsys, text):
    with pytest.raises(ValueError, match="shard"):
        shard_from(text)
    assert main(["run", *OPTIONS, "--sizes", "10", f"--shard={text}"]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "from 1" in told.err
    assert not list(here.iterdir())


def test_more_shards_than_cases_are_refused_in_each(here, capsys):
    for number in (1, 5):
        assert main(["run", *OPTIONS, "--sizes", "10", "--shard", f"{number}/5"]) == 2
        assert capsys.readouterr().err == (
            f"gradkernels: shard {number}/5: the run has 4 cases, which stay whole; use at most 4 shards\n"
        )


def run(number, *more):
    return main(["run", *OPTIONS, "--sizes", "10,100", "--shard", f"{number}/3", "--out", f"{number}.csv", *more])


def test_shards_merge_to_what_one_run_measures(here, capsys):
    assert main(["run", *OPTIONS, "--sizes", "10,100", "--out", "whole.csv"]) == 0
    assert [run(number) for number in (1, 2, 3)] == [0, 0, 0]
    capsys.readouterr()
    assert main(["merge", "3.csv", "1.csv", "2.csv", "-o", "all.csv"]) == 0
    plan = origin_of(read("1.csv")[0].run).plan
    assert (
        capsys.readouterr().out == f"all.csv: 8 rows\nall 3 shards of plan {plan} are there, with all of their rows\n"
    )
    merged, whole = ({(row.kernel, row.case) for row in read(name)} for name in ("all.csv", "whole.csv"))
    assert merged == whole
    assert len(read("all.csv")) == len(read("whole.csv")) == 8


def test_a_shard_that_was_stopped_is_not_taken_for_whole(here, capsys):
    assert [run(number) for number in (1, 2, 3)] == [0, 0, 0]
    lines = Path("1.csv").read_text().splitlines(keepends=True)
    Path("cut.csv").write_text("".join(lines[:-1]))
    capsys.readouterr()
    assert main(["merge", "cut.csv", "2.csv", "3.csv", "-o", "all.csv"]) == 0
    plan = origin_of(read("1.csv")[0].run).plan
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"all 3 shards of plan {plan} are there, but not all of their rows",
        f"shard 1/3 has {len(lines) - 2} of {len(lines) - 1} rows: go on with it by --resume, and merge again",
    ]
    assert main(["merge", "cut.csv", "1.csv", "2.csv", "3.csv", "-o", "all.csv", "--force"]) == 0
    assert capsys.readouterr().out.endswith("are there, with all of their rows\n")


def test_of_two_runs_of_a_shard_the_one_counts_that_has_most_of_a_case():
    coverage, case = Coverage(), passes(STEADY[:1])[0].case
    for run_, n, rows in (("x", 10, 3), ("x", 100, 1), ("y", 10, 2), ("y", 100, 2), ("y", 100, 1)):
        coverage.add(f"{run_}-1of1-0123abcd-7rows", case.at(n), rows)
    assert coverage.sentences()[:2] == [
        "all 1 shard of plan 0123abcd is there, but not all of their rows",
        "shard 1/1 has 6 of 7 rows: go on with it by --resume, and merge again",
    ]


def test_a_race_does_not_tell_how_many_rows_it_will_have(here):
    options = [word for word in OPTIONS if word not in ("--passes", "1")]
    assert main(["run", *options, "--race", "--sizes", "10,100", "--shard", "2/3", "--out", "2.csv"]) == 0
    assert {origin_of(row.run).rows for row in read("2.csv")} == {None}


def test_a_row_says_which_shard_it_is_from(here):
    assert run(2) == 0
    assert {(one.shard, one.rows) for row in read("2.csv") if (one := origin_of(row.run))} == {(Shard(2, 3), 3)}
    assert len({row.run for row in read("2.csv")}) == 1


def test_a_shard_goes_on_with_its_own_file_and_with_no_other(here, capsys):
    assert run(1) == 0
    rows = Path("1.csv").read_text().splitlines(keepends=True)
    Path("1.csv").write_text("".join(rows[:-1]))
    assert run(1, "--resume") == 0
    assert [line.split(",")[1] for line in Path("1.csv").read_text().splitlines()] == [
        line.split(",")[1] for line in rows
    ]
    Path("2.csv").write_text("".join(rows))
    capsys.readouterr()
    assert run(2, "--resume") == 2
    assert "unlike what these options ask for" in capsys.readouterr().err


def test_shards_without_a_name_have_files_of_their_own(here):
    for number in (1, 2):
        assert main(["run", *OPTIONS, "--sizes", "10", "--shard", f"{number}/2"]) == 0
    assert {path.stem[-7:] for path in Path("results").glob("*.csv")} == {"-1-of-2", "-2-of-2"}


def test_what_is_missing_and_what_was_measured_twice_is_told(here, capsys):
    rows = passes(STEADY)
    for name, run_ in (("a", "x-1of4-0123abcd"), ("b", "y-1of4-0123abcd"), ("c", "z-3of4-0123abcd")):
        own = [changed(row, run=run_, n=10 if name == "c" else 100) for row in rows]
        Path(f"{name}.csv").write_text(HEADER)
        append(Path(f"{name}.csv"), own)
    assert main(["merge", "a.csv", "b.csv", "c.csv", "a.csv", "-o", "all.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "all.csv: 24 rows, 8 rows left out that were there already, 24 rows brought to schema 3",
        "of 4 shards of plan 0123abcd 2 and 4 are missing",
        "whether 1 and 3 are whole is not known: the names of their runs do not tell how many rows they have",
        "1 case measured more than once, by run x-1of4-0123abcd (shard 1/4) and run y-1of4-0123abcd (shard 1/4); "
        "the passes of each count",
    ]


def test_shards_of_another_number_that_overlap_are_told():
    coverage = Coverage()
    for run_ in ("x-1of4-0123abcd", "y-1of3-0123abcd", "w-1of4-ffffffff", "plain", "odd-9of4-0123abcd"):
        coverage.add(run_, passes(STEADY[:1])[0].case, 1)
    unknown = "whether 1 is whole is not known: the names of their runs do not tell how many rows they have"
    assert coverage.sentences() == [
        "of 3 shards of plan 0123abcd 2 and 3 are missing",
        unknown,
        "of 4 shards of plan 0123abcd 2, 3 and 4 are missing",
        unknown,
        "of 4 shards of plan ffffffff 2, 3 and 4 are missing",
        unknown,
        "1 case measured more than once, by run x-1of4-0123abcd (shard 1/4) and run y-1of3-0123abcd (shard 1/3); "
        "the passes of each count",
    ]


def test_python_measures_shards_too(here):
    asked = ("linear", "norms", "numpy.broadcast", [10, 100, 1000])
    found = [gk.run(*asked, shard=(number, 2), passes=1) for number in (1, 2)]
    assert [sorted(set(one.frame["n"])) for one in found] == [[1000], [10, 100]]
    with pytest.raises(ValueError, match="shards are numbered from 1"):
        gk.run(*asked, shard=(0, 2))
    assert found[0].frame["run"][0].split("-")[1] == "1of2"


# The job arrays to copy.

HOW_TO = pages.ROOT / "docs" / "how-to"


def called(script, folder, **variables):
    """What a script gives to `gradkernels`, as the options that this reads of it."""
    (folder / "gradkernels").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / "gradkernels").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={"PATH": path, **variables}, capture_output=True, text=True, check=True
    )
    name, *words = done.stdout.splitlines()
    return typer.main.get_command(app).commands[name].make_context(name, words).params


def test_the_pages_job_arrays_are_the_files_to_copy():
    shown = {block.language: block.text for block in pages.blocks(HOW_TO / "many-machines.md")}
    assert shown["bash"] == (HOW_TO / "sweep.slurm").read_text()
    assert shown["yaml"] == (HOW_TO / "sweep-job.yml").read_text()


def test_a_task_of_slurm_measures_its_shard(tmp_path):
    script = (HOW_TO / "sweep.slurm").read_text()
    assert "#SBATCH --array=1-16\n" in script
    found = called(script, tmp_path, SLURM_ARRAY_TASK_ID="16", SLURM_ARRAY_TASK_COUNT="16")
    assert (found["shard"], found["out"], found["resume"]) == ("16/16", Path("results/part-16.csv"), True)


@pytest.mark.parametrize("index", [0, 15])
def test_a_pod_of_kubernetes_measures_its_shard(tmp_path, index):
    job = yaml.safe_load((HOW_TO / "sweep-job.yml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (script,) = container["args"]
    found = called(script, tmp_path, JOB_COMPLETION_INDEX=str(index))
    assert Shard(index + 1, job["completions"]) == shard_from(found["shard"])
    assert (found["out"], found["resume"]) == (Path(f"/results/part-{index + 1}.csv"), True)
    assert container["resources"]["requests"] == container["resources"]["limits"]
