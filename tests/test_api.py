"""The harness from Python: `gk.run`, `gk.compare`, Results, and kernels and problems of a script of one's own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.bench.race import race
from gradkernels.bench.race.plan import plan_race
from gradkernels.bench.run import session
from gradkernels.bench.run.own_code import module_of, own_kernels, with_composed, write_pickled
from gradkernels.problems import ScalarRegression
from gradkernels.quantity import QUANTITIES
from gradkernels.record import COLUMNS

FACTOR = 2.0  # what the kernel below finds beside it, here as in a cell of a notebook
FILE = """
import numpy as np
import gradkernels as gk
from gradkernels.problems import ScalarRegression

@gk.declare("numpy.mine.per_sample", problems=ScalarRegression)
def mine(problem, block=64):
    return lambda theta, x, y: problem.slopes(np, theta, x, y)[:, None] * problem.design(x)

def problem():
    return gk.HuberRegression(delta=3.0)
"""


@gk.declare("numpy.halves.per_sample", problems=ScalarRegression)
def halves(problem):
    def compute(theta, x, y):
        return problem.slopes(np, theta, x, y)[:, None] * problem.design(x) / FACTOR * 2

    return compute


@gk.declare("numpy.thirds.norms", problems=ScalarRegression)
def thirds(problem):
    return lambda theta, x, y: np.full(len(x), 1 / 3)


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    example = torch.randn(8, 2), torch.randn(8, 1)
    module = gk.ModuleProblem(nn.Linear(2, 1), nn.MSELoss(), example=example)
    ways = [halves, "numpy.broadcast", thirds, "torch.hooks"]
    return gk.run(["linear", module], None, ways, [6], budget=4, passes=2, features=2)


def test_kernels_of_a_script_and_what_is_composed_of_them_are_proven_and_timed(results):
    frame = results.frame
    linear = frame[frame["problem"] == "linear"]
    status = linear.groupby("kernel")["status"].agg(set).to_dict()
    assert {key: status[key] for key in status if "numpy" in key and "@" not in key and "convert" not in key} == {
        "numpy.broadcast.per_sample": {"ok"},
        "numpy.broadcast+.gradient": {"ok"},
        "numpy.broadcast+.norms": {"ok"},
        "numpy.halves.per_sample": {"ok"},
        "numpy.halves+.gradient": {"ok"},
        "numpy.halves+.norms": {"ok"},
        "numpy.thirds.norms": {"wrong"},
    }
    assert set(linear["features"]) == {2}
    assert "numpy.thirds.norms" in set(linear[linear["reason"].str.contains("numpy.thirds.norms on linear")]["kernel"])
    of_module = frame[frame["problem"].str.startswith("module:Linear")]
    assert {"torch.hooks.per_sample", "torch.hooks.norms"} <= set(of_module[of_module["status"] == "ok"]["kernel"])
    assert set(of_module["dtype"]) == {"float32"}


def test_results_are_tables(results, tmp_path):
    assert list(results.frame.columns) == list(COLUMNS)
    assert len(results) == len(results.frame)
    winners = results.winners()
    assert list(winners["quantity"]) == ["gradient", "norms", "per_sample"] * 2
    assert set(winners["n"]) == {6}
    assert (winners["seconds"] > 0).all()
    summary = results.summary()
    assert set(summary.columns) > {"place", "kernel", "seconds", "ratio", "low", "high", "absent"}
    assert summary["place"].isna().sum() == 1, "the kernel that is wrong has no place"
    path = tmp_path / "results.csv"
    results.write(path)
    assert gk.Results.read(path).records == results.records
    (tmp_path / "same.csv").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"results.csv, and .*same.csv both hold kernel"):
        gk.Results.read(path, tmp_path / "same.csv")
    pd.testing.assert_frame_equal(gk.Results.read(path).frame, results.frame)
    with pytest.raises(FileExistsError):
        results.write(path)
    slow = results.summary(calls=1)
    assert (slow["seconds"].dropna() > summary["seconds"].dropna()).all(), "with the first call"


def test_results_show_themselves(results):
    assert str(results).startswith("gradient of linear, 2 features, float64, 1 thread")
    assert "not timed: numpy.thirds.norms at n = 6: wrong: " in str(results)
    assert repr(results) == f"Results({len(results)} records: 6 cases, 10 kernels)"
    html = results._repr_html_()
    assert html.count("<tr") == 7
    assert "<p>Results(" in html
    figure = results.plot()
    assert len(figure.axes) == 6, "a panel for each problem and quantity"
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="there is no kind of picture 'tiem'; did you mean time"):
        results.plot("tiem")


def test_two_results_are_compared(results, tmp_path):
    path = tmp_path / "results.csv"
    results.write(path)
    verdicts = gk.compare(results, path)
    assert repr(verdicts) == f"Verdicts({verdicts.counts['undecided']} undecided)"
    compared = verdicts.frame[verdicts.frame["verdict"] != ""]
    assert set(compared["ratio"]) == {1.0}
    assert "fewer than" in str(verdicts)
    assert "<table" in verdicts._repr_html_()
    assert gk.compare("results/reference.csv", "results/reference-again.csv", delta=0.5).comparison.delta == 0.5
    with pytest.raises(ValueError, match=r"delta is 5; it must be a fraction, for instance 0.01 for 1%"):
        results.compare(results, delta=5)
    with pytest.raises(ValueError, match="without a path"):
        gk.Results.read()


@pytest.mark.parametrize("passes_before", [0, 1])
def test_ctrl_c_keeps_what_is_measured(monkeypatch, passes_before):
    measure = session.Session.measure

    def stopped(self, pass_, *given):
        if pass_ > passes_before:
            raise KeyboardInterrupt
        measure(self, pass_, *given)

    monkeypatch.setattr(session.Session, "measure", stopped)
    call = {"kernels": "numpy.broadcast.per_sample", "quantities": "per_sample", "sizes": "5", "budget": 4}
    if not passes_before:
        with pytest.raises(KeyboardInterrupt):
            gk.run(**call)
        return
    with pytest.warns(UserWarning, match=r"^stopped: \d+ rows? measured until then$"):
        found = gk.run(**call)
    assert set(found.frame["pass"]) == {1}
    assert list(found.winners()["kernel"]) == ["numpy.broadcast.per_sample"]


def test_a_race_that_is_stopped_gives_the_winner_of_what_is_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADKERNELS_WISDOM", str(tmp_path / "wisdom.json"))
    measure = session.Session.measure

    def stopped(self, pass_, *given):
        if pass_ > 1:
            raise KeyboardInterrupt
        measure(self, pass_, *given)

    two = ("numpy.blocked.norms", "numpy.broadcast+.norms")
    monkeypatch.setattr(race, "plan_race", lambda *given: replace(plan_race(*given), kernels=two))
    monkeypatch.setattr(session.Session, "measure", stopped)
    problem = gk.LinearRegression()
    arrays = problem.draw(40, seed=0)
    bound = gk.race(problem, "norms", like=arrays, budget=10)
    assert bound.kernel.key in two
    np.testing.assert_allclose(bound(*arrays), gk.norms(problem, *arrays))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"problems": []}, "problems is empty"),
        ({"problems": "liner"}, "did you mean linear"),
        ({"problems": 3}, "not iterable"),
        ({"quantities": ["norm"]}, "did you mean norms"),
        ({"kernels": "numpy.brodcast"}, "did you mean numpy.broadcast"),
        ({"sizes": [0]}, "'0' is not a whole number from 1"),
        ({"budget": 0}, "budget is 0; it must be a positive number"),
        ({"passes": -1}, "passes is -1; it must be a whole number of at least 1"),
        ({"passes": 2.5}, "passes is 2.5; it must be a whole number of at least 1"),
        ({"threads": 0}, "threads is 0; it must be a whole number"),
        ({"threads": 9999}, "^threads 9999: this machine has"),
        ({"max_bytes": "1GB"}, "max_bytes is '1GB'; it must be a whole number"),
        ({"thread": 2}, "there is no option 'thread'; did you mean threads"),
        ({"device": "cdua"}, "did you mean cuda"),
        ({"out": "results/reference.csv"}, "results/reference.csv is there already; name another file"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_measured(given, says):
    with pytest.raises((ValueError, TypeError), match=says):
        gk.run(**{"kernels": "numpy.broadcast", "sizes": [5], **given})


def test_a_kernel_that_has_the_key_of_another_is_refused():
    mine = gk.declare("numpy.broadcast.per_sample")(lambda problem: None)
    with pytest.raises(ValueError, match="numpy.broadcast.per_sample is the key of a kernel that is there already"):
        gk.run(kernels=[mine], sizes=[5])


def test_files_declare_kernels_and_problems(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    found = own_kernels(str(path))
    assert set(found) == {"numpy.mine.per_sample"} | {
        f"numpy.mine+.{name}" for name, one in QUANTITIES.items() if name != "per_sample" and not one.of_outputs
    }
    assert module_of(str(path)) is module_of(str(path))
    pickled = write_pickled([found["numpy.mine.per_sample"], halves], tmp_path / "kernels", "a kernel")
    assert set(own_kernels(pickled)) == {*found, *with_composed([halves])}
    case = gk.Case(gk.LinearRegression(), "norms", 6)
    gk.check(own_kernels(pickled)["numpy.mine+.norms"], case)
    for text, says in (("x = 1", "declares no kernel"), ("1 / 0", "raised ZeroDivisionError: division by zero")):
        other = tmp_path / f"other{says[0]}.py"
        other.write_text(text)
        with pytest.raises(ValueError, match=says):
            own_kernels(str(other))
    with pytest.raises(ValueError, match=r"none.py is no file; name one that ends in .py"):
        own_kernels(str(tmp_path / "none.py"))


def test_memory_is_that_of_each_problem_and_kernel_of_its_own():
    found = gk.run(["linear", "softmax"], "per_sample", "numpy.broadcast", [20_000], budget=2, passes=1)
    frame = found.frame[found.frame["kernel"] == "numpy.broadcast.per_sample"]
    peaks = frame.set_index("problem")["peak_bytes"].to_dict()
    linear, softmax = peaks["linear"], next(peaks[name] for name in peaks if name.startswith("softmax"))
    assert softmax > 1.4 * linear > 0, "rows of as many classes are as many times as long"


def test_names_are_short_and_only_what_is_public_is_completed():
    assert repr(gk.kernel("torch.vmap+[chunk=512].norms")) == "Kernel('torch.vmap+[chunk=512].norms')"
    assert repr(gk.Case(gk.LinearRegression(), "norms", 9)) == (
        "Case(LinearRegression(fit_intercept=True, l2=0.0, weighted=False), 'norms', 9)"
    )
    assert repr(gk.Case(gk.LinearRegression(), "norms", 9, "float32", features=3)).endswith(
        "'norms', 9, dtype='float32', features=3)"
    )
    assert all(not name.startswith("_") or name == "__version__" for name in dir(gk))
    assert {"run", "compare", "Results", "zoo", "race"} <= set(dir(gk))
    assert gk.zoo.ZOO
