"""Any functions are raced: held against the first on copies of the same arguments, before and after they are timed."""

import os
import sys

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.bench.api import function_worker, race_functions
from gradkernels.bench.api.alike import close, same
from gradkernels.bench.api.function_worker import FunctionRace

CALLS = []


def total(x):
    return x.sum()


def by_python(x):
    return float(sum(x.tolist()))


def later_wrong(x):
    """Right in its first calls, then no more."""
    CALLS.append(1)
    return x.sum() + (len(CALLS) > 5)


def changes(x):
    x += 1
    return x.sum() - len(x)


def kills(x):
    os.abort()


def one_more(x):
    return x.sum() + 1


def raises(x):
    raise KeyError("nothing")


@pytest.fixture(scope="module")
def results():
    functions = {
        "total": total, "by_python": by_python, "one_more": one_more, "raises": raises, "changes": changes,
        "kills": kills, "later": later_wrong,
    }  # fmt: skip
    return gk.race_functions(functions, lambda n: np.arange(float(n)), sizes=[3, 400], name="sums", budget=4, passes=2)


def test_those_that_agree_are_timed_beside_controls(results):
    frame = results.frame
    timed = frame[frame["status"] == "ok"]
    assert set(timed["kernel"]) == {"function.total.value", "function.by_python.value", "control", "canary"}
    assert set(timed.groupby(["kernel", "n"]).size()) == {2}, "two passes"
    assert (timed["seconds_median"] > 0).all()
    assert set(frame["problem"]) == {"function:sums"}
    assert list(results.winners()["kernel"])[1] == "function.total.value", "for 400 numbers numpy is faster"


def test_those_that_do_not_are_not_timed_and_it_is_said_why(results):
    says = "its result does not agree with that of total"
    reasons = results.frame.groupby(["kernel", "status"])["reason"].agg(set).to_dict()
    assert reasons.pop(("function.later.value", "wrong")) == {f"after timing: {says}", says}, "at 3, then at 400"
    assert {key[0].split(".")[1]: (key[1], *why) for key, why in reasons.items() if key[1] != "ok"} == {
        "one_more": ("wrong", says),
        "raises": ("failed", "KeyError: 'nothing'"),
        "changes": ("wrong", "it changes its arguments"),
        "kills": ("failed", "the process was ended by SIGABRT"),
    }


def test_what_agrees_is_what_a_person_says_it_is(tmp_path):
    path = tmp_path / "functions.csv"
    found = gk.race_functions(
        {"one": total, "other": one_more}, np.arange, sizes="5", agree=lambda a, b: abs(a - b) < 2, budget=1, passes=1,
        out=path,
    )  # fmt: skip
    assert set(found.frame["status"]) == {"ok"}
    assert gk.Results.read(path).records == found.records


@pytest.mark.parametrize(
    ("first", "make", "why"),
    [
        (kills, np.arange, "the process was ended by SIGABRT"),
        (raises, np.arange, "KeyError: 'nothing'"),
        (total, raises, "make(4) raised KeyError: 'nothing'"),
    ],
)
def test_where_the_first_fails_nothing_is_said_against_the_others(first, make, why):
    found = gk.race_functions({"first": first, "other": total}, make, sizes=[4], budget=1, passes=1)
    reasons = found.frame.set_index("kernel")["reason"].to_dict()
    nothing = why if first is total else f"there is nothing to hold it against: first: {why}"
    assert reasons == {"function.first.value": why, "function.other.value": nothing}


def test_what_computes_on_is_waited_for(monkeypatch):
    waited = []
    wait = "gradkernels.backend.libraries.Backend.wait"
    monkeypatch.setattr(wait, lambda self, result: waited.append(self.name) or result)
    import torch  # not above: the processes that measure import this file, some of them only to be ended

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    race = FunctionRace({"total": total}, np.arange, close)
    timing = function_worker._FunctionTiming(race, (np.arange(3.0),))
    assert timing.call_first() == ""
    timing.prepare("total")
    before = waited.count("torch")
    timing.time(0.0)
    assert waited.count("torch") > before > 1


def test_where_nothing_computes_on_the_bare_function_is_timed(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    timing = function_worker._FunctionTiming(FunctionRace({"total": total}, np.arange, close), (np.arange(3.0),))
    timing.prepare("total")
    assert timing._calls["total"].call.func is total


def test_ctrl_c_keeps_the_passes_that_were_measured(monkeypatch, tmp_path):
    measure, passes = race_functions.FunctionPasses.measure, []

    def stopped(self):
        passes.append(1)
        if len(passes) > 1:
            raise KeyboardInterrupt
        return measure(self)

    monkeypatch.setattr(race_functions.FunctionPasses, "measure", stopped)
    with pytest.warns(UserWarning, match="^stopped: 3 rows measured until then$"):
        found = gk.race_functions({"total": total}, np.arange, sizes=[4], budget=2, out=tmp_path / "some.csv")
    assert gk.Results.read(tmp_path / "some.csv").records == found.records


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"functions": {}}, "functions is empty"),
        ({"functions": {"a b": total}}, "'a b' cannot be the name of a function here; use letters, digits and _"),
        ({"functions": {"a": 3}}, "a is a int; it must be a function"),
        ({"sizes": [1.5]}, "'1.5' is not a whole number"),
        ({"budget": -1}, "budget is -1; it must be a positive number"),
        ({"pases": 3}, "there is no option of race_functions 'pases'; did you mean passes"),
        ({"device": "cuda"}, "there is no option of race_functions 'device'"),
        ({"out": "results/reference.csv"}, "results/reference.csv is there already"),
    ],
)
def test_what_cannot_be_raced_is_said_at_once(given, says):
    with pytest.raises(ValueError, match=says):
        gk.race_functions(**{"functions": {"total": total}, "make": np.arange, **given})


def test_equal_and_close():
    nan = np.array([np.nan, 1.0])
    assert same({"a": [nan, 2]}, {"a": (nan.copy(), 2)})
    assert not same(nan, np.array([np.nan, 1 + 1e-15]))
    assert same(object(), object())
    assert not same("a", "b")
    assert not same([1], [1, 2])
    assert close(nan, nan + 1e-10)
    assert not close(nan, nan + 1e-6)
    torch = pytest.importorskip("torch")
    assert close(torch.tensor([1.0, 0.0]), np.array([1.0, 1e-5], np.float32))
    assert not close(3, 4)
    assert close((1, {"b": 2.0}), [1, {"b": 2.0 + 1e-12}])
    assert not close(np.zeros(2), np.zeros(3))
    assert not close(None, 1.0)
