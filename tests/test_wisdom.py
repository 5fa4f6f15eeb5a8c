"""The table of measurements by itself: what it says of sizes, the text it is written as, and where it is kept."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from measured import record

from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.wisdom import MeasuredPoint, Origin, WisdomEntry
from gradkernels.dispatch.wisdom.entry import ENTRY_RULES, ORIGIN_RULES, POINT_RULES, fault_of
from gradkernels.record import HEADER, append

CASE = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 2)


@pytest.fixture
def saved(monkeypatch):
    """A function that says where the choice of this machine is kept."""

    def at(path):
        monkeypatch.setenv(wisdom.ENVIRONMENT, str(path))
        wisdom.saved.cache_clear()

    yield at
    wisdom.saved.cache_clear()


def test_peak_memory_is_proportional_to_n_from_the_nearest_larger_size():
    points = (
        MeasuredPoint(10, 1.0, 0.0, 200),
        MeasuredPoint(1000, 1.0, 0.0, 16_000),
        MeasuredPoint(2000, 1.0, 0.0, None),
    )
    sizes = {5: 100, 10: 200, 50: 800, 500: 8000, 1000: 16_000, 2000: 32_000}
    assert {n: wisdom.bytes_at(points, n) for n in sizes} == sizes
    assert wisdom.bytes_at((MeasuredPoint(10, 1.0, 0.0, 0),), 20) == 0
    assert wisdom.bytes_at((MeasuredPoint(10, 1.0, 0.0, None),), 10) is None


def test_passes_are_pooled_by_the_median_of_times_and_the_largest_peak():
    rows = [
        record(n=10, seconds_median=1.23456e-6, seconds_first=3.0, peak_bytes=100),
        record(n=10, seconds_median=9.0, peak_bytes=300),
        record(n=10, seconds_median=1e-9, seconds_first=5.0, started="2026-03-02T12:00:00+00:00"),
        record(n=20, seconds_median=1.0),
    ]
    latest = "2026-03-02T12:00:00+00:00"
    points = (
        MeasuredPoint(10, 1.235e-6, 3.0, 300, Origin(latest, "r.csv", 3)),
        MeasuredPoint(20, 1.0, 0.0, None, Origin("2026-03-01T12:00:00+00:00", "r.csv", 1)),
    )
    case = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 1)
    (entry,) = wisdom.learn(rows, "r.csv")
    assert entry == WisdomEntry("desk", case, {"numpy.loop.norms": points})
    assert entry.started == latest


def test_a_point_says_which_files_it_was_measured_in():
    rows = [record(n=10, seconds_median=1.0, run=run) for run in ("b", "a", "c", "b")]
    (entry,) = wisdom.learn(rows, {"a": "first.csv", "b": "second.csv"})
    assert entry.curves["numpy.loop.norms"][0].origin[1:] == ("first.csv, second.csv", 4)


@pytest.mark.parametrize(
    ("changes", "learned"),
    [({"started": "yesterday"}, ""), ({"started": "2026-03-01"}, "2026-03-01")],
)
def test_a_date_that_is_none_is_not_known(changes, learned):
    (entry,) = wisdom.learn([record(n=10, seconds_median=1.0, **changes)])
    assert entry.started == learned


def test_a_point_is_as_old_as_its_latest_pass_wherever_that_was_measured():
    latest = "2026-03-01T12:00:00+00:00"  # an hour after 14:00 three hours to the east
    started = [latest, "2026-03-01T14:00:00+03:00", "yesterday"]
    (entry,) = wisdom.learn([record(n=10, seconds_median=1.0, started=one) for one in started])
    assert entry.curves["numpy.loop.norms"][0].origin == Origin(latest, "", 3)


def test_a_name_of_a_file_is_kept_printable_and_short():
    (entry,) = wisdom.learn([record(n=10, seconds_median=1.0)], "a\nb" + "c" * 1000)
    assert entry.curves["numpy.loop.norms"][0].origin.source == "a?b" + "c" * 497


TEXT = """\
{"schema": 2, "entries": [
{"machine": "desk", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 2, \
"layout": "C", "features": 1, "origins": [["2026-03-01", "race", 16], ["", "", null]], "curves": {
  "a.b.norms": [[1, 1e-06, 0.5, 160, 0], [10, 2.0, 0.0, null, 1]],
  "convert.a": [[1, 1.0, 0.0, null, 0]]}},
{"machine": "desk", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 1, \
"layout": "C", "features": 1, "origins": [], "curves": {
  }}
]}
"""

OLD_TEXT = """\
{"schema": 1, "entries": [
{"machine": "desk", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 2, \
"layout": "C", "features": 1, "started": "2026-03-01", "curves": {
  "a.b.norms": [[1, 1e-06, 0.5, 160], [10, 2.0, 0.0, null]],
  "convert.a": [[1, 1.0, 0.0, null]],
  "empty": []}},
{"machine": "desk", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu", "threads": 1, \
"layout": "C", "features": 1, "started": "", "curves": {
  }}
]}
"""
ONE_THREAD = Coordinates("linear", "norms", ALL_SIZES, 1, "float64", "C", "cpu", 1)


def table(raced, unknown):
    curves = {
        "a.b.norms": (MeasuredPoint(1, 1e-6, 0.5, 160, raced), MeasuredPoint(10, 2.0, 0.0, None, unknown)),
        "convert.a": (MeasuredPoint(1, 1.0, 0.0, None, raced),),
    }
    return (WisdomEntry("desk", CASE, curves), WisdomEntry("desk", ONE_THREAD, {}))


def test_a_table_is_written_with_one_line_for_each_curve_and_read_again():
    known = table(Origin("2026-03-01", "race", 16), Origin())
    assert wisdom.dumps(known) == TEXT
    assert wisdom.loads(TEXT, "here.json") == known


def test_a_table_of_the_first_schema_is_read_with_one_date_for_an_entry():
    origin = Origin("2026-03-01")
    assert wisdom.loads(OLD_TEXT, "here.json") == table(origin, origin)
    assert [entry.started for entry in wisdom.loads(OLD_TEXT, "here.json")] == ["2026-03-01", ""]


def test_all_points_of_what_ships_are_said_to_be_shipped():
    points = [point for entry in wisdom.shipped() for curve in entry.curves.values() for point in curve]
    assert {(point.origin.source, point.origin.started[:4]) for point in points} == {("shipped", "2026")}
    raw = json.loads((files("gradkernels") / "wisdom.json").read_text())
    assert len(points) == sum(len(curve) for entry in raw["entries"] for curve in entry["curves"].values())


def entry(point="[1, 1.0, 0.0, null]", threads=1, features=1, started='""', key="numpy.loop.norms", **more):
    facts = '"machine": "m", "problem": "linear", "quantity": "norms", "dtype": "float64", "device": "cpu"'
    rest = f'"threads": {threads}, "layout": "C", "features": {features}, "started": {started}'
    rest += "".join(f', "{name}": {value}' for name, value in more.items())
    return f'{{"schema": 1, "entries": [{{{facts}, {rest}, "curves": {{"{key}": [{point}]}}}}]}}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ".+"),
        ("[]", ".+"),
        ("null", ".+"),
        (b"\xff\xfe\x00", ".+"),
        ("[" * 100_000, ".+"),
        ("1" * 5000, ".+"),
        ('{"schema": "2", "entries": []}', "no schema with a list of entries"),
        ('{"schema": true, "entries": []}', "no schema with a list of entries"),
        ('{"schema": 0, "entries": []}', "no schema with a list of entries"),
        ('{"schema": 2, "entries": {}}', "no schema with a list of entries"),
        ('{"schema": 2, "entries": [], "more": 1}', "unknown field 'more'"),
        ('{"entries": []}', "'schema'"),
    ],
)
def test_a_file_that_is_no_wisdom_is_named_and_refused(text, says):
    assert wisdom.loads(entry(), "here.json")
    with pytest.raises(ValueError, match=rf"^here.json is not a wisdom file \({says}\); delete it and measure again$"):
        wisdom.loads(text, "here.json")


@pytest.mark.parametrize("rest", ['"entries": []', '"entries": {}, "more": 1', '"tables": []'])
def test_a_newer_schema_is_refused_with_what_to_do(rest):
    says = (
        r"^here.json is wisdom of schema 99, which a newer gradkernels wrote; this one reads schemas up to 2: update "
    )
    with pytest.raises(ValueError, match=says + "it, or have GRADKERNELS_WISDOM name another file$"):
        wisdom.loads(f'{{"schema": 99, {rest}}}', "here.json")


WHOLE, ABOVE = "it must be a whole number from 1 to 2**63 - 1", "it must be above 0 and at most 1e+09"
FIRST, BYTES = "it must be from 0 to 1e+09 seconds", "it must be null or a whole number from 0 on"
DATE, TEXT_RULE = "it must be an ISO date, or empty", "it must be text of at most 500 characters"
HUGE, SHORT = 10**400, "100000000000000000...0000000000000000000"
NAMED = r"^here.json, entry 1 \('norms' of 'linear'\): "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (entry(threads=0), f"threads is 0; {WHOLE}"),
        (entry(features=0), f"features is 0; {WHOLE}"),
        (entry(features=1.5), f"features is 1.5; {WHOLE}"),
        (entry(features="true"), f"features is True; {WHOLE}"),
        (entry(features=HUGE), f"features is {SHORT}; {WHOLE}"),
        (entry(features="[]"), f"features is []; {WHOLE}"),
        (entry(started='"yesterday"'), f"started is 'yesterday'; {DATE}"),
        (entry(started="null"), f"started is None; {DATE}"),
        (entry(started="[1]"), f"started is [1]; {DATE}"),
        (entry(setting=1), "unknown field 'setting'"),
        (entry(key="a\\u0000"), f"a kernel is 'a\\x00'; {TEXT_RULE}"),
        (entry(key=""), f"a kernel is ''; {TEXT_RULE}"),
        (entry('[10, "1", 0.0, null]'), f"of numpy.loop.norms, seconds is '1'; {ABOVE}"),
        (entry("[10, null, 0.0, null]"), f"of numpy.loop.norms, seconds is None; {ABOVE}"),
        (entry("[10, 0.0, 0.0, null]"), f"of numpy.loop.norms, seconds is 0.0; {ABOVE}"),
        (entry("[10, Infinity, 0.0, null]"), f"of numpy.loop.norms, seconds is inf; {ABOVE}"),
        (entry("[10, 1e400, 0.0, null]"), f"of numpy.loop.norms, seconds is inf; {ABOVE}"),
        (entry("[10, NaN, 0.0, null]"), f"of numpy.loop.norms, seconds is nan; {ABOVE}"),
        (entry(f"[10, {HUGE}, 0.0, null]"), f"of numpy.loop.norms, seconds is {SHORT}; {ABOVE}"),
        (entry("[0, 1.0, 0.0, null]"), f"of numpy.loop.norms, n is 0; {WHOLE}"),
        (entry("[10.0, 1.0, 0.0, null]"), f"of numpy.loop.norms, n is 10.0; {WHOLE}"),
        (entry(f"[{2**63}, 1.0, 0.0, null]"), f"of numpy.loop.norms, n is 9223372036854775808; {WHOLE}"),
        (entry("[10, 1.0, -1.0, null]"), f"of numpy.loop.norms, first is -1.0; {FIRST}"),
        (entry("[10, 1.0, Infinity, null]"), f"of numpy.loop.norms, first is inf; {FIRST}"),
        (entry("[10, 1.0, true, null]"), f"of numpy.loop.norms, first is True; {FIRST}"),
        (entry("[10, 1.0, 0.0, -1]"), f"of numpy.loop.norms, bytes is -1; {BYTES}"),
        (entry("[10, 1.0, 0.0, 1.5]"), f"of numpy.loop.norms, bytes is 1.5; {BYTES}"),
        (entry("[10, 1.0, 0.0, null], [10, 1.0, 0.0, null]"), "of numpy.loop.norms, the sizes are not ascending"),
        (entry("[10, 1.0, 0.0, null], [9, 1.0, 0.0, null]"), "of numpy.loop.norms, the sizes are not ascending"),
        (entry("[10, 1.0]"), "its points cannot be read: not enough values to unpack"),
        (entry("[10, 1.0, 0.0, null, 0]"), "its points cannot be read: too many values to unpack"),
        (entry("7"), "its points cannot be read: cannot unpack non-iterable int object"),
    ],
)  # fmt: skip
def test_an_entry_that_is_not_as_it_has_to_be_is_named_with_what_is_allowed(text, says):
    with pytest.raises(ValueError, match=NAMED + re.escape(says)):
        wisdom.loads(text, "here.json")


@pytest.mark.parametrize(
    ("origins", "at", "says"),
    [
        ('[["2026-03-01", "race", 0]]', 0, "passes is 0; it must be null or a whole number from 1 on"),
        ('[["2026-03-01", null, 1]]', 0, "source is None; it must be text of at most 500 characters"),
        ("[]", 0, "its points cannot be read: 0"),
        ('[["2026-03-01", "race", 1]]', -1, "its points cannot be read: -1"),
        ("null", 0, "its points cannot be read: 'NoneType' object is not iterable"),
    ],
)
def test_an_origin_that_is_none_is_named(origins, at, says):
    known = entry(f"[1, 1.0, 0.0, null, {at}]").replace('"schema": 1', '"schema": 2')
    text = known.replace('"started": ""', f'"origins": {origins}')
    right = known.replace('"started": ""', '"origins": [["", "", 1]]').replace(f" {at}]", " 0]")
    assert wisdom.loads(right, "here.json")
    with pytest.raises(ValueError, match=NAMED + re.escape(says)):
        wisdom.loads(text, "here.json")


@pytest.mark.parametrize(
    ("raw", "says"),
    [("null", "entry 1: it is None, no object"), ("[[]]", "entry 1: it is [[]], no object"),
     ('{"n": 1}', "entry 1 (None of None): there is no 'machine'"),
     ('{"quantity": [1]}', "entry 1 ([1] of None): there is no 'machine'")],
)  # fmt: skip
def test_an_entry_that_is_nothing_is_named_by_its_place(raw, says):
    with pytest.raises(ValueError, match=f"^{re.escape(f'here.json, {says}')}$"):
        wisdom.loads(f'{{"schema": 2, "entries": [{raw}]}}', "here.json")


def test_a_choice_is_kept_in_the_users_cache(monkeypatch):
    monkeypatch.delenv(wisdom.ENVIRONMENT)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("/cache") / name)
    assert wisdom.saved_path() == Path("/cache/gradkernels/wisdom.json")


def test_without_platformdirs_nothing_is_saved_and_the_message_says_what_to_install(monkeypatch, saved):
    saved("")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert wisdom.saved() == ()
    with pytest.raises(ValueError, match=r"^saving wisdom needs platformdirs: pip install 'gradkernels\[bench\]'$"):
        wisdom.save(())


def test_the_folders_of_the_file_are_made_and_what_is_saved_counts_at_once(tmp_path, saved):
    path = tmp_path / "not" / "there" / "wisdom.json"
    saved(path)
    assert wisdom.saved() == ()
    table = wisdom.loads(entry(), "here.json")
    for _ in range(2):
        assert wisdom.save(table) == path
        assert wisdom.saved() == table


@pytest.mark.parametrize(("seconds", "later"), [(0.25, 10**9), (0.125, 0)])
def test_a_results_file_is_read_again_where_its_time_or_its_size_is_another(tmp_path, seconds, later):
    path = tmp_path / "r.csv"

    def write(seconds):
        path.write_text(HEADER)
        append(path, [record(n=10, seconds_median=seconds)])
        return path.stat()

    def known():
        (of_linear,) = wisdom.measured(path)
        return of_linear.curves["numpy.loop.norms"][0].seconds

    before = write(0.75)
    assert known() == 0.75
    size = write(seconds).st_size
    assert (size == before.st_size) == bool(later)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    assert known() == seconds


MOST, TEXTS = 2**63 - 1, ("a", "a" * 500, "µ")
COUNTS, NO_COUNTS = (1, MOST), (0, MOST + 1, True, 1.0, "1", [])
NO_TEXTS = ("a" * 501, "a\nb", 3, None, [])
RULES = {
    "machine": (TEXTS, ("", *NO_TEXTS)),
    "problem": (TEXTS, ("", *NO_TEXTS)),
    "threads": (COUNTS, (None, *NO_COUNTS)),
    "features": (COUNTS, (None, *NO_COUNTS)),
    "n": (COUNTS, (None, *NO_COUNTS)),
    "seconds": ((1e-300, 1, 1e9), (0, 0.0, -1.0, 1.1e9, float("nan"), True, "1", None)),
    "first": ((0, 0.0, 1e9), (-1e-9, 1.1e9, float("nan"), True, "1", None)),
    "bytes": ((None, 0, MOST), (-1, MOST + 1, True, 1.0, "1", [])),
    "started": (("", "2026-03-01", "2026-03-01T12:00:00+00:00"), ("yesterday", 3, None, [])),
    "source": (("", *TEXTS), NO_TEXTS),
    "passes": ((None, *COUNTS), NO_COUNTS),
}


@pytest.mark.parametrize("name", RULES)
def test_each_field_of_an_entry_may_be_what_its_rule_says(name):
    rule, (right, wrong) = (ENTRY_RULES | POINT_RULES | ORIGIN_RULES)[name], RULES[name]
    assert [one for one in right if not rule.holds(one)] == []
    assert [one for one in wrong if rule.holds(one)] == []


def test_each_field_of_a_point_and_of_any_origin_is_looked_at():
    point = MeasuredPoint(10, 1.0, 0.0, None, Origin("2026-03-01", "race", 1))
    origin, says = Origin("yesterday", "race", 1), "started is 'yesterday'; it must be an ISO date, or empty"
    for points in ((point, point._replace(n=20, origin=origin)), (point._replace(origin=origin), point._replace(n=20))):
        assert fault_of(WisdomEntry("desk", CASE, {"a.b.norms": points})) == says
    for name, value in (("n", 0), ("seconds", 0.0), ("first", -1.0), ("bytes", -1)):
        fault = fault_of(WisdomEntry("desk", CASE, {"a.b.norms": (point._replace(**{name: value}),)}))
        assert fault.startswith(f"of a.b.norms, {name} is {value}; it must be ")
    assert fault_of(WisdomEntry("desk", CASE, {"a.b.norms": (point, point._replace(n=20))})) is None
    for n in (10, 9):
        again = WisdomEntry("desk", CASE, {"a.b.norms": (point, point._replace(n=n))})
        assert fault_of(again) == "of a.b.norms, the sizes are not ascending"
