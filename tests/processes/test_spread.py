"""A run over an executor's machines: workers that die, answers that come late, twice or wrong, disks that are full."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from measured import measure_at_once

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.bench.cli.commands import run as run_command
from gradkernels.bench.isolation.limits import DEFAULT_LIMITS, ProcessLimits
from gradkernels.bench.isolation.machine_slot import machine_slot, slot_file
from gradkernels.bench.results.results_file import ResultsFile
from gradkernels.bench.run.plan import Plan
from gradkernels.bench.run.session import Schedule
from gradkernels.bench.sweep import executors, jobs
from gradkernels.bench.sweep import spread as sweep_spread
from gradkernels.bench.sweep.executors import require_address
from gradkernels.bench.sweep.jobs import jobs_of, measure_case
from gradkernels.bench.sweep.spread import spread_out
from gradkernels.record import HEADER, read

KERNELS = ("numpy.broadcast.per_sample", "numpy.broadcast+.norms")
PLANS = [Plan("linear", KERNELS, (10, 100))]
SCHEDULE = Schedule(1, 8.0, "8s")
CASES = {("per_sample", 10), ("per_sample", 100), ("norms", 10), ("norms", 100)}
OPTIONS = ["run", "--kernel", "numpy.broadcast", "--quantity", "norms,per_sample", "--sizes", "10,100", "--passes", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, in which runs measure nothing and have their rows at once."""
    monkeypatch.chdir(tmp_path)
    measure_at_once(monkeypatch)
    return tmp_path


class Scripted(Executor):
    """Calls functions at once, but does what its script says for the first submissions."""

    def __init__(self, *script):
        self.script, self.calls = [*script], 0

    def submit(self, function, /, *given, **named):
        self.calls += 1
        future = Future()
        act = self.script.pop(0) if self.script else None
        if isinstance(act, RuntimeError) and str(act) == "closed":
            raise act
        if isinstance(act, BaseException):
            future.set_exception(act)
        else:
            text = function(*given, **named)
            future.set_result(act(text) if act else text)
        return future


def spread(executor, path="x.csv", mode="new", plans=PLANS, limits=DEFAULT_LIMITS):
    return spread_out(plans, (Path(path), mode), SCHEDULE, limits, executor, lambda *_: None)


def once(rows):
    """The cases of rows, each of which has to be there once."""
    found = [(row.case.quantity, row.case.n) for row in rows]
    assert len(found) == len(set(found))
    return set(found)


def test_each_case_is_a_job_and_its_rows_come_back():
    executor = Scripted()
    rows = spread(executor)
    assert once(rows) == CASES
    assert read("x.csv") == rows
    assert executor.calls == 4
    assert len({row.run for row in rows}) == 4


def test_jobs_share_the_time_and_the_largest_come_first():
    found = jobs_of(PLANS, SCHEDULE, DEFAULT_LIMITS)
    assert [job.plan.cases[0].n for job in found] == [100, 100, 10, 10]
    assert {job.schedule.budget for job in found} == {2.0}


def test_a_worker_that_dies_costs_nothing():
    executor = Scripted(BrokenProcessPool("killed"), None, OSError("lost"), OSError("lost again"))
    assert once(spread(executor)) == CASES
    assert executor.calls == 7


def test_a_case_that_kills_three_workers_is_told_and_the_others_are_kept():
    died = [OSError(f"worker {i} died") for i in range(1, 4)]
    executor = Scripted(died[0], None, None, None, *died[1:])
    with pytest.raises(
        OSError, match="1 case not measured by any of 3 workers: problem=linear, .* worker 3 died"
    ) as said:
        spread(executor)
    assert str(said.value).endswith("the other rows are in x.csv, and --resume goes on")
    assert len(once(read("x.csv"))) == 3
    assert once(spread(again := Scripted(), mode="resume")) == CASES
    assert again.calls == 1


@pytest.mark.parametrize("elsewhere", [True, False], ids=["executor", "here"])
@pytest.mark.parametrize("shard", [None, "1/1"])
def test_a_run_of_several_passes_that_lost_a_case_goes_on_at_an_executor_and_here(monkeypatch, elsewhere, shard):
    measure_at_once(monkeypatch, passes=2)
    lost = [OSError("lost")] * 3
    ends = iter([Scripted(lost[0], None, None, None, *lost[1:]), *[Scripted()] * 2])
    monkeypatch.setattr(run_command, "executor_at", lambda text: nullcontext(next(ends)))
    command = [*OPTIONS[:-1], "2", "--out", "x.csv", *(["--shard", shard] if shard else [])]
    at = ["--executor", "dask://a:1"]
    assert main([*command, *at]) == 2
    assert len({row.case for row in read("x.csv")}) == 3
    others = ["numpy.*" if word == "numpy.broadcast" else word for word in command]
    assert main([*others, *at, "--resume"]) == 2
    assert len({row.case for row in read("x.csv")}) == 3
    assert main([*command, "--resume", *(at if elsewhere else [])]) == 0
    assert Counter((row.case.quantity, row.case.n, row.pass_) for row in read("x.csv")) == {
        (*case, pass_): 1 for case in CASES for pass_ in (1, 2)
    }


def test_a_pool_that_is_closed_is_told():
    with pytest.raises(OSError, match="4 cases not measured .* closed"):
        spread(Scripted(*[RuntimeError("closed")] * 4))


def test_a_client_that_is_closed_is_told_whatever_it_raises():
    class Closed(Scripted):
        def submit(self, function, /, *given, **named):
            raise ConnectionError("client is closed")

    with pytest.raises(OSError, match="4 cases not measured by any of 3 workers: .* client is closed"):
        spread(Closed())


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "slow"])
def test_an_executor_that_died_is_not_waited_for_and_a_slow_one_is(monkeypatch, gone):
    class Silent(Scripted):
        """Answers all but the last job, and that one when it is asked whether it takes others, or never."""

        def submit(self, function, /, *given, **named):
            if self.calls < 3:
                return super().submit(function, *given, **named)
            if function is measure_case:
                self.calls, self.last, self.late = self.calls + 1, Future(), given
                return self.last
            if gone:
                raise ConnectionError("client is closed")
            self.last.set_result(measure_case(*self.late))
            return Future()

    monkeypatch.setattr(sweep_spread, "LOOK_SECONDS", 0.01)
    if gone:
        with pytest.raises(
            OSError, match="1 case not measured by any of 3 workers: .* client is closed.*--resume goes"
        ):
            spread(Silent())
        assert len(once(read("x.csv"))) == 3
    assert once(spread(Scripted() if gone else Silent(), mode="resume" if gone else "new")) == CASES


def test_what_returns_no_future_is_refused():
    class Eager(Scripted):
        def submit(self, function, /, *given, **named):
            return function(*given, **named)

    with pytest.raises(TypeError, match="submit of Eager returned a str; it must return a concurrent.futures.Future"):
        spread(Eager())


def test_an_answer_that_comes_twice_counts_once():
    class Twice(Scripted):
        """Answers the second job by the first one's rows too, as a scheduler that lost track might."""

        def submit(self, function, /, *given, **named):
            if not hasattr(self, "first"):
                self.first = given
            elif not hasattr(self, "late"):
                self.late = given
                return super().submit(function, *self.first)
            return super().submit(function, *given, **named)

    assert once(spread(Twice())) == CASES


def test_a_case_that_was_measured_meanwhile_is_not_written_again():
    executor = Scripted()
    twice = [*PLANS, *PLANS]
    assert once(spread(executor, plans=twice)) == CASES
    assert executor.calls == 8


@pytest.mark.parametrize(
    "answer",
    [
        lambda text: "",
        lambda text: HEADER,
        lambda text: text[:-9],
        lambda text: text.replace(",100,", ",7,"),
        str.upper,
    ],
)
def test_an_answer_that_is_none_is_asked_for_again(answer):
    executor = Scripted(answer)
    assert once(spread(executor)) == CASES
    assert executor.calls == 5


def test_a_disk_that_is_full_leaves_whole_cases_and_goes_on_later(monkeypatch):
    written, append = [], ResultsFile.append

    def full(file, *rows):
        if file.path.name == "x.csv":  # and not that of a worker
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device; the rows before are safe", "x.csv")
            written.append(rows)
        append(file, *rows)

    monkeypatch.setattr(ResultsFile, "append", full)
    with pytest.raises(OSError, match="No space left"):
        spread(Scripted())
    assert len(once(read("x.csv"))) == 2
    monkeypatch.setattr(ResultsFile, "append", append)
    assert once(spread(again := Scripted(), mode="resume")) == CASES
    assert again.calls == 2


def test_rows_of_a_case_are_written_whole_or_not_at_all(monkeypatch):
    from gradkernels.bench.results import results_file

    rows = spread(Scripted())
    with ResultsFile(Path("y.csv"), "new") as file:
        file.append(rows[0])
        before = Path("y.csv").read_bytes()

        def torn(handle, data):
            handle.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(results_file, "_write", torn)
        with pytest.raises(OSError, match="No space left"):
            file.append(*rows[1:])
    assert Path("y.csv").read_bytes() == before


def test_a_file_of_other_options_is_refused():
    spread(Scripted())
    with pytest.raises(ValueError, match="unlike what these options ask for"):
        spread(Scripted(), mode="resume", plans=[Plan("linear", KERNELS, (10,))])


def test_a_machine_with_less_memory_has_a_lower_limit(monkeypatch):
    monkeypatch.setattr(jobs, "most_bytes", lambda: 1000)
    seen, open_session = [], jobs.open_session

    def watched(*given, **named):
        seen.append((given[4], named["alone"]))
        return open_session(*given, **named)

    monkeypatch.setattr(jobs, "open_session", watched)
    spread(Scripted(), limits=ProcessLimits(max_bytes=5000))
    assert set(seen) == {(ProcessLimits(max_bytes=1000), True)}


def test_files_that_a_plan_names_travel_with_the_job(monkeypatch):
    Path("mine.py").write_text("import gradkernels as gk\nimport numpy as np\n\n\n@gk.declare('numpy.mine.norms')\n"
                               "def mine(problem):\n    return lambda theta, x, y: np.ones(len(x))\n")  # fmt: skip
    plan = Plan("linear", ("numpy.mine.norms",), (10,), own=str(Path("mine.py").absolute()))
    (job,) = jobs_of([plan], SCHEDULE, DEFAULT_LIMITS)
    Path("mine.py").unlink()
    assert "numpy.mine.norms" in measure_case(job)


@pytest.mark.parametrize("as_path", [True, False])
def test_data_travel_with_the_job(monkeypatch, as_path):
    np.savez("data.npz", x=np.arange(5.0), y=np.arange(5.0) ** 2, columns=np.array(["x"]))
    with open("data.npz", "rb") as file:
        file.read()  # whoever shares the descriptor may have left it at the end
        data = str(Path("data.npz").absolute()) if as_path else file.fileno()
        plan = Plan("linear", KERNELS[:1], (3,), data=data, data_name="five")
        (job,) = jobs_of([plan], SCHEDULE, DEFAULT_LIMITS)
        expected = plan.inputs(plan.cases[0])
    Path("data.npz").unlink()
    there, open_session = [], jobs.open_session

    def watched(plan, *given, **named):
        there.append(plan.inputs(plan.cases[0]))
        return open_session(plan, *given, **named)

    monkeypatch.setattr(jobs, "open_session", watched)
    assert "linear/five" in measure_case(job)
    for one, other in zip(there[0], expected, strict=True):
        assert np.array_equal(one, other)


# The slot of a machine.


def held():
    """Whether something holds the machine's slot, alone or shared."""
    with slot_file().open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_no_two_cases_are_measured_at_once_on_a_machine(monkeypatch):
    at_once, most, alone = [], [], threading.Lock()
    open_session = jobs.open_session

    def counted(*given, **named):
        session = open_session(*given, **named)

        class Counting:
            def __enter__(self):
                entered = session.__enter__()
                with alone:
                    at_once.append(1)
                    most.append(len(at_once))
                return entered

            def __exit__(self, *raised):
                at_once.pop()
                return session.__exit__(*raised)

        return Counting()

    monkeypatch.setattr(jobs, "open_session", counted)
    with ThreadPoolExecutor(4) as executor:
        assert once(spread(executor)) == CASES
    assert most == [1, 1, 1, 1]


def test_a_case_waits_for_another_run_and_says_so(capsys):
    done = threading.Event()
    (job, *_) = jobs_of(PLANS, SCHEDULE, DEFAULT_LIMITS)
    with machine_slot(alone=False):
        thread = threading.Thread(target=lambda: (measure_case(job), done.set()))
        thread.start()
        assert not done.wait(0.1)
    thread.join(20)
    assert done.is_set()
    assert capsys.readouterr().err == "waiting: another run measures on this machine\n"


def test_runs_of_a_person_share_the_slot():
    with machine_slot(alone=False), machine_slot(alone=False):
        assert held()
    assert not held()


def test_a_slot_that_is_a_link_or_somebody_elses_is_refused(here, monkeypatch):
    (here / "other").write_text("mine")
    (here / "link").symlink_to(here / "other")
    monkeypatch.setenv("GRADKERNELS_SLOT", str(here / "link"))
    with pytest.raises(OSError, match="link"), machine_slot(alone=True):
        pass
    os.mkfifo(here / "pipe")
    monkeypatch.setenv("GRADKERNELS_SLOT", str(here / "pipe"))
    with pytest.raises(PermissionError, match="not this user's own file"), machine_slot(alone=True):
        pass
    assert (here / "other").read_text() == "mine"
    with machine_slot(alone=False):  # which a run of a person does without
        assert main([*OPTIONS, "--out", "x.csv"]) == 0


def test_the_slot_is_the_same_whatever_the_temporary_folder(monkeypatch):
    monkeypatch.delenv("GRADKERNELS_SLOT")
    before = slot_file()
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert slot_file() == before


# Commands and Python.


def test_python_takes_any_executor_and_says_how_far_it_is(capsys):
    with ThreadPoolExecutor(2) as executor:
        found = gk.run("linear", ["norms"], ["numpy.broadcast"], [10, 100], executor=executor, passes=1, out="x.csv")
    assert once(found.records) == {("norms", 10), ("norms", 100)}
    assert len(read("x.csv")) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "of" in line]
    assert told == ["1 of 2 cases", "2 of 2 cases"]


class Stopped(Scripted):
    """Is stopped by Ctrl-C while it waits for the third answer, which comes last."""

    def submit(self, function, /, *given, **named):
        if self.calls < 2:
            return super().submit(function, *given, **named)
        future = Future()
        future.result = self._interrupted
        threading.Timer(0.1, future.set_result, [""]).start()
        return future

    def _interrupted(self):
        raise KeyboardInterrupt


def test_python_keeps_what_was_measured_until_ctrl_c():
    asked = ("linear", ["norms"], ["numpy.broadcast"], [10, 100, 1000])
    with pytest.warns(UserWarning, match="stopped: 2 rows measured until then"):
        found = gk.run(*asked, executor=Stopped(), passes=1)
    assert once(found.records) == {("norms", 1000), ("norms", 100)}


LOST = [OSError(f"worker {i} died") for i in range(3)]
TWO = ("linear", ["norms"], ["numpy.broadcast"], [10, 100])


def test_python_keeps_the_rows_of_the_others_where_a_case_is_lost_and_no_file_was_named():
    says = "1 case not measured by any of 3 workers: .*n=100.*; the result has the rows of the others$"
    with pytest.warns(UserWarning, match=says):
        found = gk.run(*TWO, executor=Scripted(LOST[0], None, *LOST[1:]), passes=1)
    assert once(found.records) == {("norms", 10)}
    with pytest.raises(OSError, match="2 cases not measured by any of 3 workers: [^;]*$"):
        gk.run(*TWO, executor=Scripted(*2 * LOST), passes=1)


def test_python_says_where_the_rows_of_the_others_are_where_a_file_was_named():
    with pytest.raises(OSError, match="the other rows are in x.csv, and --resume goes on"):
        gk.run(*TWO, executor=Scripted(LOST[0], None, *LOST[1:]), passes=1, out="x.csv")
    assert once(read("x.csv")) == {("norms", 10)}


def test_what_is_no_executor_is_refused_before_anything_is_done():
    with pytest.raises(TypeError, match="executor is a list; it must be one of concurrent.futures"):
        gk.run(*TWO, executor=[], passes=1)


def test_the_command_measures_on_a_schedulers_machines(monkeypatch, capsys):
    monkeypatch.setattr(run_command, "executor_at", lambda text: ThreadPoolExecutor(1))
    assert main([*OPTIONS, "--executor", "dask://10.0.0.1:8786", "--out", "x.csv"]) == 0
    told = capsys.readouterr()
    assert "4 of 4 cases" in told.err
    assert once(read("x.csv")) == CASES
    assert Path("x.png").exists()


@pytest.mark.parametrize("text", ["tcp://a:1", "dask://", "dask://host", "dask://host:0", "dask://host:99999", "a:b"])
def test_what_is_no_address_is_one_sentence(capsys, text):
    with pytest.raises(ValueError, match="write dask://HOST:PORT"):
        require_address(text)
    assert main([*OPTIONS, "--executor", text]) == 2
    assert capsys.readouterr().err == (
        f"gradkernels: --executor {text}: write dask://HOST:PORT, the address of a scheduler of dask\n"
    )
    assert not list(Path().iterdir())


def test_addresses_are_those_of_dask():
    assert require_address("dask://10.0.0.1:8786") == "tcp://10.0.0.1:8786"
    assert require_address("dask://[::1]:8786/") == "tcp://[::1]:8786"


def test_a_race_is_for_one_machine(capsys):
    assert main([*OPTIONS[:-2], "--race", "--executor", "dask://a:1"]) == 2
    assert "--race and --executor were both given" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_one_sentence(monkeypatch, capsys):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "CONNECT_TIMEOUT", "50ms")
    assert main([*OPTIONS, "--executor", "dask://127.0.0.1:9", "--out", "x.csv"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gradkernels: --executor dask://127.0.0.1:9: no scheduler answers")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("workers", "told"), [({}, "gradkernels: dask://a:1 has no workers yet; cases wait for one\n"), ({"w": 1}, "")]
)
def test_a_scheduler_without_workers_is_told(monkeypatch, capsys, workers, told):
    distributed = pytest.importorskip("distributed")

    class Client(Scripted):
        def __init__(self, address, **given):
            super().__init__()
            assert address == "tcp://a:1"

        def scheduler_info(self):
            return {"workers": workers}

        def get_executor(self, pure):
            assert not pure
            return self

    monkeypatch.setattr(distributed, "Client", Client)
    with executors.executor_at("dask://a:1") as executor:
        assert once(spread(executor)) == CASES
    assert capsys.readouterr().err == told
