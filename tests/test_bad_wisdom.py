"""Bad wisdom stops no computation: one warning names the file and the entry, and the next source decides."""

from __future__ import annotations

import json
import os
import warnings

import numpy as np
import pytest
from measured import record

import gradkernels as gk
from gradkernels.bench.cli import main
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.bound_kernels import forget_choices
from gradkernels.dispatch.machine import machine

P = gk.LinearRegression()
ARRAYS = P.draw(10, seed=0)
LOOP, BLOCKED = "numpy.loop+.norms", "numpy.blocked.norms"
HUGE = "1" + "0" * 400


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where this machine's choice is kept; what ships knows the loop as the fastest."""
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "wisdom.json"))
    times = [record(kernel=key, n=10, seconds_median=seconds) for key, seconds in ((LOOP, 1.0), (BLOCKED, 2.0))]
    monkeypatch.setattr(wisdom, "shipped", lambda: wisdom.learn(times))
    wisdom.saved.cache_clear()
    forget_choices()
    yield tmp_path / "wisdom.json"
    wisdom.saved.cache_clear()
    forget_choices()


def entry(points="[[10, 1.0, 0.0, null]]", features="1", **more):
    facts = '"problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 1, "layout": "C"'
    rest = "".join(f', "{name}": {value}' for name, value in {"started": '""', **more}.items())
    curves = f'{{"{BLOCKED}": {points}, "numpy.broadcast+.norms": [[10, 9.0, 0.0, null]]}}'
    return f'{{"machine": "{machine()}", {facts}, "features": {features}{rest}, "curves": {curves}}}'


def file(*entries, schema=1):
    return f'{{"schema": {schema}, "entries": [{", ".join(entries)}]}}'


WHOLE_FILES = {
    "empty": "",
    "no JSON": "nonsense",
    "cut short": file(entry())[:-20],
    "a list": "[]",
    "null": "null",
    "a number": HUGE,
    "too many digits": "1" * 5000,
    "deep": "[" * 100_000,
    "no text": "\x00\xff",
    "newer": file(schema=99),
    "no schema": '{"entries": []}',
    "unknown field": '{"schema": 2, "entries": [], "more": 1}',
}
ENTRIES = {
    "no features": entry(features="0"),
    "huge features": entry(features=HUGE),
    "null": "null",
    "unknown field": entry(setting="1"),
    "NaN": entry("[[10, NaN, 0.0, null]]"),
    "null seconds": entry("[[10, null, 0.0, null]]"),
    "huge seconds": entry(f"[[10, {HUGE}, 0.0, null]]"),
    "huge size": entry(f"[[{HUGE}, 1.0, 0.0, null]]"),
    "more seconds than a number holds": entry("[[10, 1e999, 0.0, null]]"),
    "points of the wrong kind": entry("7"),
    "no date": entry(started="[]"),
    "deep": entry("[" * 400 + "]" * 400),
}


def said_of(call):
    """The warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught]


def computed():
    norms = gk.norms(P, *ARRAYS)
    np.testing.assert_allclose(norms, gk.norms(P, *ARRAYS, kernel="numpy.broadcast"))


@pytest.mark.parametrize("text", WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_a_file_that_cannot_be_read_is_named_once_and_what_ships_decides(path, text):
    path.write_text(text, encoding="latin-1")
    (said,) = said_of(computed)
    assert said.startswith(f"this machine's saved choice is passed over: {path} is ")
    bound = gk.fastest(P, "norms", n=10)
    assert (bound.kernel.key, bound.why.split(" (")[0]) == (
        LOOP,
        f"{LOOP} for n = 10, by the table shipped with gradkernels",
    )
    wisdom.saved.cache_clear()
    forget_choices()
    assert said_of(computed) == []


@pytest.mark.parametrize("bad", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_that_cannot_be_used_is_named_once_and_what_ships_decides(path, bad):
    path.write_text(file(bad))
    (said,) = said_of(computed)
    assert said.startswith(f"{path}, entry 1")
    assert " is passed over: " in said
    assert gk.fastest(P, "norms", n=10).kernel.key == LOOP


@pytest.mark.parametrize("bad", ENTRIES.values(), ids=ENTRIES)
def test_other_entries_of_the_file_count_and_a_save_takes_nothing_away(path, bad):
    path.write_text(file(bad, entry(), bad))
    with pytest.warns(UserWarning, match=r"entry 1.* \(and 1 more\) is passed over: "):
        assert gk.fastest(P, "norms", n=10).kernel.key == BLOCKED
    wisdom.save(wisdom.learn([record(kernel=LOOP, n=20, seconds_median=1.0, machine=machine())]))
    document = json.loads(path.read_text())
    assert [json.dumps(one) for one in document["entries"][1:]] == [json.dumps(json.loads(bad))] * 2
    with pytest.warns(UserWarning, match=r"entry 2.* \(and 1 more\) is passed over: "):
        (kept,) = wisdom.saved()
    assert {key: [point.n for point in points] for key, points in kept.curves.items()} == {
        BLOCKED: [10], "numpy.broadcast+.norms": [10], LOOP: [20]
    }  # fmt: skip


@pytest.mark.parametrize("text", WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_nothing_is_saved_over_a_file_that_cannot_be_read(path, text):
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"^{path} is "):
        wisdom.save(wisdom.learn([record(kernel=LOOP, n=20, seconds_median=1.0)]))
    assert path.read_text(encoding="latin-1") == text


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_named_and_what_ships_decides(path, make):
    make(path)
    (said,) = said_of(computed)
    says = f"{path} is no regular file; have GRADKERNELS_WISDOM name another"
    assert said == f"this machine's saved choice is passed over: {says}"
    with pytest.raises(ValueError, match=f"^{says}$"):
        wisdom.save(wisdom.learn([record(kernel=LOOP, n=20, seconds_median=1.0)]))


def test_a_path_that_no_file_could_have_is_named_and_what_ships_decides(path, monkeypatch):
    monkeypatch.setenv(wisdom.ENVIRONMENT, "x" * 5000)
    (said,) = said_of(computed)
    assert said.startswith("this machine's saved choice is passed over: [Errno ")


@pytest.mark.parametrize("setting", ["stripes=8", f"rows={'1' * 5000}", "rows=0", "rows"])
def test_times_of_a_setting_that_is_none_are_named_with_their_entry(path, setting):
    gone = f"numpy.blocked[{setting[:400]}].norms"
    path.write_text(file(entry().replace('"curves": {', f'"curves": {{"{gone}": [[10, 0.001, 0.0, null]], ')))
    said = said_of(computed)
    if setting.startswith("rows=1"):  # a block of more rows than there are is the whole batch
        assert said == []
        return
    where = f"{path}, in the entry norms of linear in float64 on cpu, features 1,"
    assert len(said) == 1
    assert said[0].startswith(f"the times of {gone} of {where} are passed over: ")
    assert gk.fastest(P, "norms", n=10).kernel.key == BLOCKED


def test_the_command_lists_what_ships_where_the_saved_choice_cannot_be_read(path, capsys):
    path.write_text("nonsense")
    with pytest.warns(UserWarning, match="is not a wisdom file"):
        assert main(["fastest", "--quantity", "norms"]) == 0
    captured = capsys.readouterr()
    assert LOOP.removesuffix(".norms") in captured.out
    assert "from the table shipped with gradkernels, a hint" in captured.err
